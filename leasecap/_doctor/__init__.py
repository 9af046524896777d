"""`leasecap doctor`: it tries things out on this machine, in this root and in this process. One check is one
function."""
