"""The command line: it parses and prints, no more. Whatever is heavy is imported inside the verb that needs it."""

from smcbench.cli.app import main as main
