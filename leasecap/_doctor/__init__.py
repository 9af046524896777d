"""`leasecap doctor`: what is tried out on this machine, this root and this process. One check is one function."""
