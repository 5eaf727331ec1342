#!/bin/sh
# Puts the OpenMP runtime of Debian 11 (gcc 10.2) into the folder $1, from the mirror that this machine's apt uses, without
# installing anything.  It needs no glibc newer than 2.17, where those of Debian 12 and newer need 2.34: the wheel's tag
# hangs on it.  Fails on other systems; then the wheel gets the machine's own runtime and a younger tag.
set -eu
mirror=$(apt-get indextargets --format '$(SITE)' | grep '/debian/*$' | head -n 1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$1/apt/lists/partial" "$1/apt/archives/partial"
cd "$1"
echo "deb [signed-by=$keys] ${mirror:?the mirror of Debian could not be told} bullseye main" > apt/sources.list
set -- -qq -o Dir::Etc::SourceList="$PWD/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State="$PWD/apt" -o Dir::State::status=/dev/null -o Dir::Cache="$PWD/apt" -o APT::Sandbox::User=root
apt-get "$@" update
apt-get "$@" download libgomp1
dpkg -x libgomp1_*.deb apt/unpacked
cp apt/unpacked/usr/lib/*/libgomp.so.1 .
rm -rf apt libgomp1_*.deb
