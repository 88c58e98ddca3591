#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
crash-states.py LOG KEEP ROOT WORK AMBROCTL IMAGE SHA256 [--states N] [--random N] [--seed N] [--first] [--ignore WHAT] [--keys DIR]

LOG is tool-crashlog's, of many runs of ambroctl on the repository ROOT/repo, KEEP its kept files. The machine is made to
crash at every line of the log. What was not made durable by then, each thing on its own, may be there or not:

  * an entry of a folder (of a file that was linked, renamed, deleted, of a folder that was made), unless a flush of that
    folder began after it was there and has ended; what is in a folder that is not there is not there either
  * the bytes of a file, unless a flush of it began after the last write and has ended: they may be missing, half there, zeros

So at each line there are: the state where nothing of that is there, the one where all is; those where just one thing is
missing, or just one is there; and random ones. In each of them, if they differ: `list` names all images that have to be there and
none that must not be, `check --read-data` finds nothing, every image restores to what it was; and in every tenth one a new image
(imported from IMAGE, of a disk with the bytes SHA256) can be put, `prune` runs, and all is as it should be again.

What has to be there the test says by lines "M", added to the log between runs (\t between words):

  M begin ID SHA256   a capture begins, of a disk with these bytes        M end ID HASH    it said 0: the image's object
  M dead ID           it was killed
  M listed HASH…      somebody was told of these images
  M forget HASH, M forgotten HASH, M undo HASH, M undone HASH             begun, said 0
  M init, M inited
  M add KEY, M added KEY, M remove KEY, M removed KEY    a key slot, by its file in DIR, a passphrase's if it begins with "pw": begun, said 0
  M change OLD NEW, M changed OLD NEW                    in between at least one of the two opens the repository

--keys DIR: it is encrypted. DIR/ambro-key always opens it, and what has to open it does, and what must not does not.

--ignore folders|files|found: does as if these flushes had not been made (of folders, of files, of folders in which this run
had made nothing), to see that it would be noticed.

Prints what was seen in one line. Exit status 1: something was wrong, the first few of which are told.
"""
import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys

Op = collections.namedtuple('Op', 'begin end call ino path source run')
# of one path: an entry appears (its inode, or FOLDER) or goes
Change = collections.namedtuple('Change', 'op there ino')
FOLDER = 0
TMP = 'repo/tmp/'


class Log:
    """What happened, and what was promised, by line."""

    def __init__(self, name, ignore):
        self.ops, self.marks = [], []
        self.stats = {}  # inode: size and mtime after its last flush
        lines = open(name, encoding='utf-8').read().splitlines()
        self.length = len(lines)
        open_calls, run = {}, 0
        for at, line in enumerate(lines):
            kind, *words = line.split('\t')
            if kind == 'M':
                self.marks.append((at, words))
                run += 1
            elif kind == 'B':
                tid, call, ino, path, source = words
                open_calls[tid] = at, call, int(ino), os.path.normpath(path), source, run
            elif kind == 'E':
                tid, ret, ino, size, mtime = words
                begin, call, b_ino, path, source, its_run = open_calls.pop(tid)
                if int(ret) < 0:
                    continue
                made = call in ('create', 'nameless')
                op = Op(begin, at, call, int(ino) if made else b_ino, path, source, its_run)
                self.ops.append(op)
                if call == 'fsync':
                    self.stats[op.ino] = int(size), int(mtime)
        if open_calls:
            sys.exit(f'crash-states: calls without an end: {open_calls}')
        self.turns = {at for at, _ in self.marks}
        self.turns.update(op.end if op.call == 'fsync' else op.begin for op in self.ops)
        self.sort(ignore)

    def sort(self, ignore):
        self.entries = collections.defaultdict(list)  # path: changes
        self.written = collections.defaultdict(list)  # inode: ops
        self.folder_flushes = collections.defaultdict(list)
        self.file_flushes = collections.defaultdict(list)
        folders, touched = {'.'}, set()
        for op in self.ops:
            if op.call == 'mkdir':
                self.entries[op.path].append(Change(op, True, FOLDER))
                folders.add(op.path)
            elif op.call == 'create':
                self.entries[op.path].append(Change(op, True, op.ino))
                self.written[op.ino].append(op)
            elif op.call in ('link', 'rename'):
                self.entries[op.path].append(Change(op, True, op.ino))
                if op.call == 'rename':
                    self.entries[op.source].append(Change(op, False, op.ino))
            elif op.call == 'unlink':
                self.entries[op.path].append(Change(op, False, None))
            elif op.call in ('nameless', 'write'):
                self.written[op.ino].append(op)
            elif op.path in folders:
                found = (op.path, op.run) not in touched
                if ignore != 'folders' and not (ignore == 'found' and found):
                    self.folder_flushes[op.path].append(op)
            elif ignore != 'files':
                self.file_flushes[op.ino].append(op)
            if op.call in ('mkdir', 'create', 'link', 'rename', 'unlink'):
                above = os.path.dirname(op.path) or '.'
                while above != '.':
                    touched.add((above, op.run))
                    above = os.path.dirname(above) or '.'
                touched.add(('.', op.run))

    def durable(self, flushes, op, at):
        return any(f.begin > op.end and f.end < at for f in flushes)


class Moment:
    """What can be on the disk when the machine crashes just before line @at."""

    def __init__(self, log, at):
        self.log, self.at = log, at
        self.choices = {}  # path: (changes, durable ones)
        for path, changes in log.entries.items():
            begun = [c for c in changes if c.op.begin < at]
            if not begun:
                continue
            flushes = log.folder_flushes[os.path.dirname(path) or '.']
            sure = 0
            for i, c in enumerate(begun, 1):
                if log.durable(flushes, c.op, at):
                    sure = i
            self.choices[path] = begun, sure
        undecided = [p for p, (begun, sure) in self.choices.items() if sure < len(begun)]
        self.open = [p for p in undecided if not p.startswith(TMP)]
        # nobody reads these: any of them will do, all at once
        self.rest = [p for p in undecided if p.startswith(TMP)]

    def whole(self, ino):
        begun = [w for w in self.log.written[ino] if w.begin < self.at]
        return not begun or self.log.durable(self.log.file_flushes[ino], begun[-1], self.at)

    def state(self, taken, damage):
        """@taken: how many changes of each open path are there. Returns {path: (inode, damage)}."""
        for path, n in list(taken.items()):
            # a rename is done at both ends or, at the old one, not yet
            begun, sure = self.choices[path]
            for c in begun[sure:n]:
                if c.op.call == 'rename' and not c.there:
                    self.force(taken, c.op)
        tree = {}
        for path in sorted(self.choices):
            begun, sure = self.choices[path]
            n = taken.get(path, sure)
            above = os.path.dirname(path) or '.'
            if n and begun[n - 1].there and (above == '.' or tree.get(above, (1,))[0] == FOLDER):
                ino = begun[n - 1].ino
                tree[path] = ino, '' if ino == FOLDER or self.whole(ino) else damage
        return tree

    def force(self, taken, op):
        begun, sure = self.choices[op.path]
        for i, c in enumerate(begun, 1):
            if c.op is op:
                taken[op.path] = max(taken.get(op.path, sure), i)

    def states(self, rng, most):
        end = {p: len(self.choices[p][0]) for p in self.open}
        none = {p: self.choices[p][1] for p in self.open}
        rest = {p: rng.randint(self.choices[p][1], len(self.choices[p][0])) for p in self.rest}
        yield self.state({}, 'empty')
        yield self.state({**end, **rest}, 'half')
        for p in self.open:
            yield self.state({**end, **rest, p: none[p]}, 'zeros')
            yield self.state({**none, **rest, p: end[p]}, 'empty')
        for _ in range(most if len(self.open) > 2 else 0):
            taken = {p: rng.randint(none[p], end[p]) for p in self.open}
            yield self.state({**taken, **rest}, rng.choice(['empty', 'half', 'zeros', '']))


class Promise:
    """What was promised by then."""

    def __init__(self, log, at):
        self.inited = self.began = False
        self.must, self.may, self.hidden = {}, {}, set()  # object: bytes; of begun captures; objects
        self.either = set()
        # keys that have to open it, that must not; two of which one has to
        self.opens, self.shut, self.change = set(), set(), ()
        hashes, begun = {}, {}
        for line, (what, *words) in log.marks:
            if what == 'begin':
                begun[words[0]] = words[1]
            elif what == 'end':
                hashes[words[1]] = begun[words[0]]
        self.known = hashes
        for line, (what, *words) in log.marks:
            if line >= at:
                break
            getattr(self, 'mark_' + what)(*words)

    def mark_init(self):
        self.began = True

    def mark_inited(self):
        self.inited = True

    def mark_begin(self, name, sha):
        self.may[name] = sha

    def mark_dead(self, name):
        pass

    def mark_end(self, name, image):
        self.must[image] = self.may.pop(name)

    def mark_listed(self, *images):
        for image in images:
            if image not in self.must and image not in self.either | self.hidden:
                self.must[image] = self.known.get(image)

    def mark_forget(self, image):
        self.must.pop(image, None)
        self.either.add(image)

    def mark_forgotten(self, image):
        self.either.discard(image)
        self.hidden.add(image)

    def mark_undo(self, image):
        self.hidden.discard(image)
        self.either.add(image)

    def mark_undone(self, image):
        self.either.discard(image)
        self.must[image] = self.known[image]

    def mark_add(self, key):
        pass

    def mark_added(self, key):
        self.opens.add(key)

    def mark_remove(self, key):
        self.opens.discard(key)

    def mark_removed(self, key):
        self.shut.add(key)

    def mark_change(self, old, new):
        self.opens.discard(old)
        self.change = old, new

    def mark_changed(self, old, new):
        self.change = ()
        self.shut.add(old)
        self.opens.add(new)

    def key(self):
        return (tuple(sorted(self.opens)), tuple(sorted(self.shut)), self.change, self.inited, tuple(sorted(self.must.items())), tuple(sorted(self.may.items())),
                tuple(sorted(self.hidden)), tuple(sorted(self.either)))


class Wrong(Exception):
    pass


class Place:
    """A state, as files, and the tool on it."""

    def __init__(self, args, number, tree):
        self.args, self.top = args, os.path.join(args.work, str(number))
        self.repo = os.path.join(self.top, 'repo')
        os.makedirs(self.top)
        for path, (ino, damage) in sorted(tree.items()):
            to = os.path.join(self.top, path)
            if ino == FOLDER:
                os.mkdir(to)
            elif damage:
                with open(os.path.join(args.keep, str(ino)), 'rb') as f:
                    data = f.read()
                with open(to, 'wb') as f:
                    f.write({'empty': b'', 'half': data[:len(data) // 2], 'zeros': bytes(len(data))}[damage])
            elif os.path.exists(os.path.join(args.keep, str(ino))):
                os.link(os.path.join(args.keep, str(ino)), to)
            else:
                # it never got a name outside tmp/
                open(to, 'wb').close()

    def try_run(self, *words, keys=None):
        env = {**os.environ, 'AMBRO_REPOSITORY': self.repo, 'AMBRO_STATE_DIR': ''}
        if keys:
            env['CREDENTIALS_DIRECTORY'] = keys
        # no terminal to ask on
        return subprocess.run([self.args.ambroctl, *words], capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL,
                              start_new_session=True)

    def run(self, *words):
        done = self.try_run(*words, keys=self.args.keys)
        if done.returncode:
            raise Wrong(f'ambroctl {" ".join(words)}: exit {done.returncode}: {done.stderr.strip() or done.stdout[-300:]}')
        return done.stdout

    def restored(self, image):
        out = os.path.join(self.top, 'out')
        self.run('restore', '--yes', image, out)
        with open(out, 'rb') as f:
            sha = hashlib.sha256(f.read()).hexdigest()
        os.remove(out)
        return sha

    def opened_by(self, key):
        option = '--passphrase-file' if key.startswith('pw') else '--key-file'
        done = self.try_run('repo', 'info', option, os.path.join(self.args.keys, key))
        if done.returncode not in (0, 7):
            raise Wrong(f'key {key}: exit {done.returncode}: {done.stderr.strip()}')
        return done.returncode == 0

    def check_keys(self, promise):
        for key in promise.opens:
            if not self.opened_by(key):
                raise Wrong(f'key {key} does not open it any more')
        for key in promise.shut:
            if self.opened_by(key):
                raise Wrong(f'key {key}, which was removed, opens it')
        if promise.change and not any(self.opened_by(key) for key in promise.change):
            raise Wrong(f'neither of {promise.change} opens it')

    def check(self, promise):
        found = {i['hash'] for i in json.loads(self.run('list', '--json'))}
        lost = set(promise.must) - found
        if lost:
            raise Wrong(f'images are lost: {sorted(lost)}')
        back = promise.hidden & found
        if back:
            raise Wrong(f'forgotten images are back: {sorted(back)}')
        self.run('repo', 'check', '--read-data')
        may = list(promise.may.values())
        for image in found:
            sha = self.restored(image)
            want = promise.must.get(image) or promise.known.get(image)
            if want is None or image not in promise.must and image not in promise.either:
                if sha not in may:
                    raise Wrong(f'image {image} is there, which nobody has begun, or it is not whole')
            elif sha != want:
                raise Wrong(f'image {image} restores to other bytes')
        return found

    def goes_on(self, promise):
        self.run('import', self.args.image, '--host', 'after', '--disk', 'crash', '-q')
        if self.restored('after/crash/latest') != self.args.image_sha:
            raise Wrong('the image that was put after the crash restores to other bytes')
        self.run('prune', '--grace', '0', '--repack-dead', '5')
        promise.may['after'] = self.args.image_sha
        self.check(promise)

    def judge(self, promise, more):
        if not os.path.exists(os.path.join(self.repo, 'format')):
            if promise.inited:
                raise Wrong('there is no repository any more')
            self.run('repo', 'init', '--chunk-size', '64K',
                     *(['--encrypt', '--key-file', os.path.join(self.args.keys, 'ambro-key')] if self.args.keys else []))
        self.check(promise)
        self.check_keys(promise)
        if more:
            self.goes_on(promise)


def one(args, job):
    number, at, tree, promise = job
    place = Place(args, number, tree)
    try:
        place.judge(promise, number % 10 == 0)
        shutil.rmtree(place.top)
        return None
    except Wrong as e:
        return f'crash before line {at + 1}: {e} (left in {place.top})'


def jobs_of(log, args):
    """All that differ, in the order of time. How many moments, states, different ones."""
    rng, seen, jobs, states, points = random.Random(args.seed), set(), [], 0, 0
    for at in range(log.length + 1):
        promise = Promise(log, at)
        points += promise.began
        # behind any other line there are the same states as before it
        if not promise.began or at - 1 not in log.turns:
            continue
        # where nothing is ever sure there are too many
        if args.ignore == 'folders' and rng.random() > 0.1:
            continue
        for tree in Moment(log, at).states(rng, args.random):
            states += 1
            key = tuple(sorted(i for i in tree.items() if not i[0].startswith(TMP))), promise.key()
            if key not in seen:
                seen.add(key)
                jobs.append((at, tree, promise))
    return jobs, states, points


def held_against(log, args):
    """Was everything seen? What the log says is there in the end is there, and nothing was written behind a flush."""
    end = Moment(log, log.length)
    tree = end.state({p: len(end.choices[p][0]) for p in end.choices}, 'unflushed')
    here = {}
    for top, folders, files in os.walk(args.root):
        below = os.path.relpath(top, args.root)
        here.update({os.path.normpath(os.path.join(below, f)): FOLDER for f in folders})
        for f in files:
            here[os.path.normpath(os.path.join(below, f))] = os.lstat(os.path.join(top, f)).st_ino
    if here != {p: ino for p, (ino, _) in tree.items()}:
        sys.exit(f'crash-states: the log is not all that happened: {set(here.items()) ^ set((p, i) for p, (i, _) in tree.items())}')
    for ino, (size, mtime) in log.stats.items():
        file = os.path.join(args.keep, str(ino))
        if os.path.exists(file) and (os.stat(file).st_size, os.stat(file).st_mtime_ns) != (size, mtime):
            sys.exit(f'crash-states: file {ino} was written behind its flush')


def main():
    p = argparse.ArgumentParser()
    for word in 'log keep root work ambroctl image image_sha'.split():
        p.add_argument(word)
    p.add_argument('--states', type=int, default=0, help='at most (0: all)')
    p.add_argument('--random', type=int, default=4, help='random states at each line')
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--first', action='store_true', help='end with the first state that is wrong')
    p.add_argument('--keys')
    p.add_argument('--ignore', choices=['folders', 'files', 'found'])
    args = p.parse_args()
    log = Log(args.log, args.ignore)
    if not args.ignore:
        held_against(log, args)
    jobs, states, points = jobs_of(log, args)
    different = len(jobs)
    if 0 < args.states < len(jobs):
        jobs = sorted(random.Random(args.seed).sample(jobs, args.states), key=lambda j: j[0])
    os.makedirs(args.work)
    wrong, tried = [], 0
    with concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        found = [pool.submit(one, args, (i, *j)) for i, j in enumerate(jobs)]
        for f in concurrent.futures.as_completed(found):
            tried += 1
            if f.result():
                wrong.append(f.result())
            if wrong and args.first:
                pool.shutdown(cancel_futures=True)
                break
    print(f'{points} crash points, {states} states, {different} of them different, {tried} tried, {len(wrong)} wrong')
    for words in wrong[:5]:
        print(words)
    sys.exit(1 if wrong else 0)


main()
