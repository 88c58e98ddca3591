/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repo_repair_cmd - `ambroctl repo repair`, as repo_check_cmd. */
#pragma once

int repo_repair_main(int argc, char **argv);
