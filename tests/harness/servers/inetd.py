"""inetd.py PORT PROGRAM [ARGUMENT...]: gives every connection to PORT to a new PROGRAM as its stdin and stdout."""
import os, signal, socket, sys

port, program = int(sys.argv[1]), sys.argv[2:]
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen(64)
while True:
    connection, _ = listener.accept()
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        for fd in (0, 1, 2):
            os.dup2(connection.fileno(), fd)
        connection.close()
        try:
            os.execv(program[0], program)
        finally:
            os._exit(127)
    connection.close()
