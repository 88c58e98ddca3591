# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Bash completion for ambroctl.

_ambroctl_disks() {
	lsblk -npro NAME 2>/dev/null
}

# The verb among the words so far, past options and their arguments; its index is left in $verb_at.
_ambroctl_verb() {
	local i
	verb="" verb_at=0
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--socket) i=$((i + 1)) ;;
		-*) ;;
		*)
			verb=${COMP_WORDS[i]} verb_at=$i
			return
			;;
		esac
	done
}

_ambroctl_files() {
	local IFS=$'\n'
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

_ambroctl_words() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

# An option's argument. Returns 1 when the word before takes none.
_ambroctl_argument() {
	local current=$1 before=$2
	case $before in
	--socket | -o | --output | --key-file | --passphrase-file | --image-key-file | --image-passphrase-file | --new-passphrase-file | --recipient | --repo | --recovery-key | --state | --state-dir | --config-dir) _ambroctl_files "$current" ;;
	--strategy) _ambroctl_words "auto dm kmod precopy offline still" "$current" ;;
	--on-overflow) _ambroctl_words "fail precopy" "$current" ;;
	--hooks) _ambroctl_words "abort continue off" "$current" ;;
	--level) _ambroctl_words "fast default max" "$current" ;;
	--cow)
		case $current in
		*/*) _ambroctl_files "$current" ;;
		*) _ambroctl_words "auto file ram" "$current" ;;
		esac
		;;
	--max-freeze | --cow-size | --threads | --partition | --hook-timeout | --limit-read | --limit-write) COMPREPLY=() ;;
	--host | --disk | --tag | --passphrase-fd | --new-passphrase-fd | --keep-* | --grace | --repack-dead | --max-repack) COMPREPLY=() ;;
	--chunk-size) _ambroctl_words "64K 128K 256K 512K 1M 2M 4M" "$current" ;;
	*) return 1 ;;
	esac
}

_ambroctl() {
	local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local verb verb_at common="--json --socket --help"
	COMPREPLY=()
	_ambroctl_argument "$current" "$before" && return
	_ambroctl_verb
	if [[ -z $verb ]]; then
		_ambroctl_words "capture devices export forget import key list prune repo restore run show status verify $common --version" "$current"
		return
	fi
	if [[ $current == -* ]]; then
		case $verb in
		capture) common+=" --output --force --strategy --cow --cow-size --on-overflow --chunk-size --level --max-freeze --threads --hooks --hook-timeout --limit-read --limit-write --full-speed" &&
			common+=" --ignore-read-errors --progress --quiet --repo --host --disk --tag --full --state-dir --encrypt --recipient --key-file --passphrase-file --passphrase-fd" ;;
		status) common+=" --repair" ;;
		repo) common+=" $(_ambroctl_options repo "${COMP_WORDS[verb_at + 1]}")" ;;
		export | forget | import | key | list | prune | restore | run | show | verify) common+=" $(_ambroctl_options "$verb")" ;;
		esac
		_ambroctl_words "$common" "$current"
		return
	fi
	case $verb in
	capture) _ambroctl_words "$(_ambroctl_disks)" "$current" ;;
	restore)
		# first the image, then where it goes
		if ((COMP_CWORD > verb_at + 1)); then
			_ambroctl_words "$(_ambroctl_disks)" "$current"
		else
			_ambroctl_files "$current"
		fi
		;;
	key) _ambroctl_words "list add change remove generate" "$current" ;;
	repo) _ambroctl_words "init info check repair rebuild-format gc" "$current" ;;
	run) _ambroctl_words "$(ambroctl run --list 2>/dev/null)" "$current" ;;
	import) _ambroctl_files "$current" ;;
	export) ((COMP_CWORD == verb_at + 1)) || _ambroctl_files "$current" ;;
	show | verify) _ambroctl_files "$current" ;;
	esac
}

# The long options that the --help of a verb, or of a word of it, names.
_ambroctl_options() {
	ambroctl "$@" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]+' | sort -u | tr '\n' ' '
}

complete -F _ambroctl ambroctl
