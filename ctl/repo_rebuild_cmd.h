/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_rebuild_cmd - `ambroctl repo rebuild-format`, to which ctl/verb_repo.c hands on. As a verb: argv[0] is "ambroctl: repo
 * rebuild-format", and an exit code is returned.
 */
#pragma once

int repo_rebuild_main(int argc, char **argv);
