"""Pools in a Redis or Valkey that several machines share. Whatever knows a key, a script or a connection is here.

Nothing here is loaded before a pool that names such a store is used: redis-py comes with the extra `leasecap[redis]`.
"""
