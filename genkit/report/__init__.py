"""Runs beside the published figures that they are to reach, made from nothing but the runs' own files."""

from genkit.report.account import Account, find_runs, read_account
from genkit.report.rows import Group, Row, grouped
from genkit.report.table import HEADERS, cells, markdown

__all__ = ["HEADERS", "Account", "Group", "Row", "cells", "find_runs", "grouped", "markdown", "read_account"]
