"""aioftp.py ROOT PORT USER PASSWORD plain|explicit|implicit PEM IDLE|- SESSIONS|- ADDRESS"""
import asyncio, ssl, sys
import aioftp

root, port, user, password, tls, pem, idle, sessions, address = sys.argv[1:10]


async def main():
    permissions = [aioftp.Permission("/", readable=True, writable=True)]
    account = aioftp.User(user, password, base_path=root, home_path="/", permissions=permissions)
    settings = {}
    if idle != "-":
        settings["idle_timeout"] = int(idle)
    if sessions != "-":
        settings["maximum_connections"] = int(sessions)
    if tls == "implicit":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        settings["ssl"] = context
    server = aioftp.Server([account], path_io_factory=aioftp.AsyncPathIO, **settings)
    await server.run(address, int(port))


asyncio.run(main())
