#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where writes cannot be tracked (no BTF, BPF denied by a policy or for lack of capabilities) `status` says why;
# a disk that is mounted for writing is refused with the reason and what would help, and is not frozen; one that
# is mounted read-only, or not at all, is captured, unless somebody writes to it meanwhile.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root
require jq setpriv unshare zstd

deny=$O/tests/lib/tool-deny
[[ -x $deny ]] || skip "$deny is not built"
truncate -s 100M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at "$source" "$scratch/mnt"
some_files "$scratch/mnt" 10
sync -f "$scratch/mnt"

# proves IMAGE: it is the disk, also for plain zstd
proves() {
	ambroctl restore "$1" "$scratch/restored" --yes 2>/dev/null
	zstd -qdc "$1" | cmp - "$scratch/restored" || fail "plain zstd makes something else of it"
	fs_check ext4 "$scratch/restored"
	mount_at "$scratch/restored" "$scratch/copy" -o ro,loop
	diff -r "$scratch/mnt" "$scratch/copy" || fail "files differ"
	umount_at "$scratch/copy"
	rm "$1" "$scratch/restored"
}

cat >"$scratch/no-btf" <<'SH'
#!/bin/sh
mount -t tmpfs none /sys/kernel/btf && exec "$@"
SH
chmod +x "$scratch/no-btf"
for how in "no BTF" "a policy" "no capabilities"; do
	reason="BPF is denied"
	case $how in
	"no BTF")
		via=(unshare -m --propagation private "$scratch/no-btf")
		reason="no type information"
		;;
	"a policy") via=("$deny" bpf) ;;
	*) via=(setpriv --bounding-set "-bpf,-perfmon,-sys_admin" --inh-caps "-bpf,-perfmon,-sys_admin") ;;
	esac
	agent_start "${via[@]}"
	ambroctl status | finds "tracking not available: .*$reason" || fail "$how: $(ambroctl status)"
	mount -o remount,rw "$scratch/mnt"
	expect_fail any "mount it read-only" ambroctl capture "$source" -o "$scratch/image.zst"
	grep -q "$reason" "$scratch/expect.err" || fail "$how: $(cat "$scratch/expect.err")"
	expect_fail any "$reason" ambroctl capture "$source" -o "$scratch/image.zst" --strategy precopy
	writes_go_on "$scratch/mnt"
	mount -o remount,ro "$scratch/mnt"
	ambroctl capture "$source" -o "$scratch/image.zst" --quiet
	[[ $(manifest "$scratch/image.zst" .strategy) == still ]] || fail "$how: wrong strategy"
	proves "$scratch/image.zst"
	agent_stop
done

# on any kernel, by name; and not when it is written to meanwhile
agent_start_pausing mapped
capture_start "$source" "$scratch/image.zst" --strategy still
agent_comes_to mapped
dd if="$source" of="$source" bs=4k count=1 skip=100 seek=100 conv=notrunc oflag=direct iflag=direct status=none
agent_goes_on
capture_ends
((client_status == 6)) || fail "exit code $client_status: $(cat "$scratch/image.zst.log")"
grep -q "was written to while it was read" "$scratch/image.zst.log" || fail "$(cat "$scratch/image.zst.log")"
[[ ! -e $scratch/image.zst ]] || fail "an image was left"
mount -o remount,rw "$scratch/mnt"
expect_fail 6 "is mounted for writing" ambroctl capture "$source" -o "$scratch/image.zst" --strategy still
mount -o remount,ro "$scratch/mnt"
ambroctl capture "$source" -o "$scratch/image.zst" --strategy still --quiet
proves "$scratch/image.zst"
