/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_check_cmd - `ambroctl repo check` and `ambroctl repo repair`, to which ctl/verb_repo.c hands on. As verbs: argv[0] is
 * "ambroctl: repo check", and an exit code is returned.
 */
#pragma once

int repo_check_main(int argc, char **argv);
int repo_repair_main(int argc, char **argv);
