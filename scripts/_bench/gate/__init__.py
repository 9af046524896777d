"""What the gate of `leasecap run --per-request` costs and what it makes of a cap; knows no other workload."""
