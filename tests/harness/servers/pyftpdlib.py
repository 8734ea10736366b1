"""pyftpdlib.py ROOT PORT USER PASSWORD plain|explicit|implicit PEM IDLE|- SESSIONS|- ADDRESS [BANNER]"""
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

root, port, user, password, tls, pem, idle, sessions, address = sys.argv[1:10]
authorizer = DummyAuthorizer()
authorizer.add_user(user, password, root, perm="elradfmwMT")
handler = FTPHandler
if tls != "plain":
    from pyftpdlib.handlers import TLS_FTPHandler

    class Explicit(TLS_FTPHandler):
        certfile = pem

    class Implicit(Explicit):
        def handle(self):
            self.secure_connection(self.ssl_context)

        def handle_ssl_established(self):
            TLS_FTPHandler.handle(self)

        def ftp_AUTH(self, arg):
            self.respond("550 not supposed to be used with implicit SSL.")

    handler = Implicit if tls == "implicit" else Explicit
handler.authorizer = authorizer
if len(sys.argv) > 10:
    handler.banner = sys.argv[10]
if idle != "-":
    handler.timeout = int(idle)
server = FTPServer((address, int(port)), handler)
if sessions != "-":
    server.max_cons_per_ip = int(sessions)
server.serve_forever()
