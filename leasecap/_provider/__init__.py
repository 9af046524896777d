"""What a provider's requests cost, and what its answers say: what the gate and the transports share.

Pure: knows no clock, file or environment, and neither whose request it is nor by what library it is sent.
"""
