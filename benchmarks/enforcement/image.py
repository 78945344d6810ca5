"""One of the hundred processes: a small Python service that has imported what services import, and holds a table.

python image.py TABLE OWN_MIB        the table is read from a file, as one is; the rest is this process's own, and random
"""

import asyncio
import decimal
import email.message
import http.client
import json
import os
import signal
import sqlite3
import sys
import urllib.request
import xml.dom.minidom

IMPORTED = (asyncio, decimal, email.message, http.client, json, sqlite3, urllib.request, xml.dom.minidom)

if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        table = file.read()
    own = os.urandom(int(float(sys.argv[2]) * (1 << 20)))
    signal.sigwait({signal.SIGTERM})
