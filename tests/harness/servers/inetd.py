"""inetd.py ADDRESS PORT PROGRAM [ARGUMENT...]: gives every connection to PORT to a new PROGRAM as its stdin and stdout."""
import os, signal, socket, sys

address, port, program = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((address, port))
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
