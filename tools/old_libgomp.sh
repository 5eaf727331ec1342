#!/bin/sh
# Puts the OpenMP runtime of Debian 11 (gcc 10.2) into the folder $1, with apt and without installing anything.
# It needs no glibc newer than 2.17, where those of Debian 12 and newer need 2.34: the wheel's tag hangs on it.
# Fails where there is no apt; then the wheel gets the machine's own runtime and a younger tag.
set -eu
mkdir -p "$1/apt/lists/partial" "$1/apt/archives/partial"
cd "$1"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] http://deb.debian.org/debian bullseye main" > apt/sources.list
set -- -qq -o Dir::Etc::SourceList="$PWD/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State="$PWD/apt" -o Dir::State::status=/dev/null -o Dir::Cache="$PWD/apt" -o APT::Sandbox::User=root
apt-get "$@" update
apt-get "$@" download libgomp1
dpkg -x libgomp1_*.deb apt/unpacked
cp apt/unpacked/usr/lib/*/libgomp.so.1 .
rm -rf apt libgomp1_*.deb
