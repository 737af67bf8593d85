"""Structured weight sparsity: GRIM, RTMobile, CSB-RNN and DARB, and the structures they are compared with."""
