#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""terminal.py STEP... -- COMMAND...: run COMMAND on a terminal of its own, which it must leave as it was.

Steps, in order: 'want:TEXT' waits until TEXT was printed, 'type:TEXT' types a line, 'key:N' types the control character
with code N, 'secret' asserts that the terminal does not echo, 'signal:NAME' sends a signal, 'stopped' waits until the
command has stopped (and continues it), 'echoes' asserts that the terminal echoes. What was printed goes to the output;
the exit status is the command's (128 + N for a signal)."""
import fcntl, os, pty, select, signal, sys, termios, time

LIMIT = 30      # seconds for each step
split = sys.argv.index('--')
steps, command = sys.argv[1:split], sys.argv[split + 1:]
seen = b''


def fail(why):
    sys.stdout.buffer.write(seen)
    sys.stdout.flush()
    sys.exit(f'terminal.py: {why}')


def echoes():
    return bool(termios.tcgetattr(slave)[3] & termios.ECHO)


def pump(done, what):
    """Read until done(); what happened is in seen."""
    global seen
    end = time.monotonic() + LIMIT
    while not done():
        if what != 'end' and ended() and not select.select([master], [], [], 0)[0]:
            fail(f'it ended before {what}')
        if time.monotonic() > end:
            fail(f'no {what} within {LIMIT} s')
        if select.select([master], [], [], 0.05)[0]:
            try:
                seen += os.read(master, 4096)
            except OSError:
                return


master, slave = pty.openpty()
child = os.fork()
if child == 0:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    os.setsid()
    os.close(master)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    # a group of its own within the session, so that it can be stopped
    for fd in range(3):
        os.dup2(slave, fd)
    inner = os.fork()
    if inner == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        os.execvp(command[0], command)
    while True:
        status = os.waitpid(inner, os.WUNTRACED)[1]
        if not os.WIFSTOPPED(status):
            break
        os.write(2, b'[stopped]')
        # the other side looks at the terminal, then says so
        signal.sigwait({signal.SIGUSR1})
        os.kill(inner, signal.SIGCONT)
    os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))

status = None


def ended():
    global status
    if status is None:
        pid, result = os.waitpid(child, os.WNOHANG)
        status = result if pid else None
    return status is not None


at = 0
for step in steps:
    word, _, argument = step.partition(':')
    if word == 'want':
        pump(lambda: seen.find(argument.encode(), at) >= 0, repr(argument))
        at = seen.find(argument.encode(), at) + len(argument)
    elif word == 'type':
        os.write(master, argument.encode() + b'\n')
    elif word == 'key':
        os.write(master, bytes([int(argument)]))
    elif word == 'secret':
        pump(lambda: not echoes(), 'silence')
    elif word == 'echoes':
        if not echoes():
            fail('the terminal does not echo')
    elif word == 'signal':
        os.kill(os.tcgetpgrp(master), getattr(signal, argument))
    elif word == 'stopped':
        pump(lambda: seen.find(b'[stopped]', at) >= 0, 'stop')
        at = seen.find(b'[stopped]', at) + 9
        if not echoes():
            fail('stopped, and the terminal does not echo')
        os.kill(child, signal.SIGUSR1)
    else:
        fail(f'what is {step}?')
pump(ended, 'end')
while select.select([master], [], [], 0)[0]:
    seen += os.read(master, 4096)
if not echoes():
    fail('the terminal was left without echo')
sys.stdout.buffer.write(seen)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(status))
