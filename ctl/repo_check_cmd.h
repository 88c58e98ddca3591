/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repo_check_cmd - `ambroctl repo check`, to which ctl/verb_repo.c hands on. As a verb: argv[0] is "ambroctl: repo check", and
 * an exit code is returned.
 */
#pragma once

int repo_check_main(int argc, char **argv);
