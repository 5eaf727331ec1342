"""The curves of the dropout paper, measured again: ``python -m examples.dropout_paper [NAME ...]``.

N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: A Simple Way to Prevent Neural
Networks from Overfitting", JMLR 15 (2014) 1929-1958.  RESULTS.md has the tables, the pictures and what they say.
"""
