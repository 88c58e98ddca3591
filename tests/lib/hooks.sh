# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables of functions.sh, and for the test
#
# hooks.sh - an agent with hooks of the test's own; sourced after functions.sh.

hooks=$scratch/hooks.d
calls=$scratch/calls # a line for each call: NAME PHASE
mkdir -p "$hooks"
chmod 755 "$hooks"
hooks_env=("AMBRO_HOOKS_DIR=$hooks")

# hook_make NAME [COMMAND]: a hook that notes its calls, and then runs COMMAND ($1: its phase).
hook_make() {
	cat >"$hooks/$1" <<EOT
#!/bin/sh
echo "$1 \$1" >>"$calls"
${2:-}
EOT
	chmod 755 "$hooks/$1"
}
hooks_clear() {
	rm -rf "${hooks:?}"/* "$calls"
	: >"$calls"
}
# hooks_were CALL…: these calls, in this order, and nothing else.
hooks_were() {
	printf '%s' "${@/%/$'\n'}" | cmp -s - "$calls" || fail "the hooks were called: $(tr '\n' ',' <"$calls")"
}
# hooks_left: state files of agents that are gone, and of those that are not.
hooks_left() { find /run/ambro -maxdepth 1 -name 'hooks-*' 2>/dev/null; }
hook_called() { grep -qxF "$1" "$calls"; }
