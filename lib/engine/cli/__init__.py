"""The command line. One file per group of verbs; heavy imports wait until a verb needs them."""
