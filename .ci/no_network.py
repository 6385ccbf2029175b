"""Runs Python with its arguments in a new network namespace, of which only loopback is up.

unshare -n python .ci/no_network.py -m pytest tests/test_mocking.py
"""

import fcntl
import os
import socket
import struct
import sys

SIOCSIFFLAGS = 0x8914
IFF_UP_AND_RUNNING = 0x1 | 0x40

with open("/proc/net/route", encoding="ascii") as routes:
    if len(routes.readlines()) > 1:  # below the titles of its columns
        sys.exit("this namespace has a network")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_AND_RUNNING))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
