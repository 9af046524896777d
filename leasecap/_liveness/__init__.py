"""What is known of a process, and the verdict whether it lives. Nothing here asks the operating system."""
