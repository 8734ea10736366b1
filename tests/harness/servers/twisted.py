"""twisted.py ROOT PORT USER PASSWORD plain PEM IDLE|- SESSIONS|- ADDRESS"""
import sys

from twisted.cred import checkers, portal
from twisted.internet import reactor
from twisted.protocols import ftp
from twisted.python import filepath
from zope.interface import implementer

root, port, user, password, tls, pem, idle, sessions, address = sys.argv[1:10]


@implementer(portal.IRealm)
class Realm:
    def requestAvatar(self, avatar, mind, *interfaces):
        return ftp.IFTPShell, ftp.FTPShell(filepath.FilePath(root)), lambda: None


accounts = checkers.InMemoryUsernamePasswordDatabaseDontUse()
accounts.addUser(user, password)
factory = ftp.FTPFactory(portal.Portal(Realm(), [accounts]))
factory.allowAnonymous = False
if idle != "-":
    factory.timeOut = int(idle)
reactor.listenTCP(int(port), factory, interface=address)
reactor.run()
