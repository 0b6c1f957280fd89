"""Ask questions about long videos."""
