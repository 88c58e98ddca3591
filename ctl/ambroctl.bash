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
	--socket | -o | --output) _ambroctl_files "$current" ;;
	--strategy) _ambroctl_words "auto dm kmod precopy offline still" "$current" ;;
	--on-overflow) _ambroctl_words "fail precopy" "$current" ;;
	--level) _ambroctl_words "fast default max" "$current" ;;
	--cow)
		case $current in
		*/*) _ambroctl_files "$current" ;;
		*) _ambroctl_words "auto file ram" "$current" ;;
		esac
		;;
	--max-freeze | --cow-size | --threads | --partition) COMPREPLY=() ;;
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
		_ambroctl_words "capture devices restore show status verify $common --version" "$current"
		return
	fi
	if [[ $current == -* ]]; then
		case $verb in
		capture) common+=" --output --force --strategy --cow --cow-size --on-overflow --level --max-freeze --threads" &&
			common+=" --ignore-read-errors --progress --quiet" ;;
		status) common+=" --repair" ;;
		restore | show | verify) common+=" $(_ambroctl_options "$verb")" ;;
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
	show | verify) _ambroctl_files "$current" ;;
	esac
}

# The long options that a verb's --help names.
_ambroctl_options() {
	ambroctl "$1" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]+' | sort -u | tr '\n' ' '
}

complete -F _ambroctl ambroctl
