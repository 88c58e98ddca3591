/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "ctl/key_source.h"
#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/newfile.h"

static const char key_help[] =
	"Usage: ambroctl key list|add|change|remove|generate [OPTION]… [ARGUMENT]\n"
	"The keys of an encrypted repository. Each slot opens it for one passphrase, or for one key.\n"
	"\n"
	"  list            the slots\n"
	"  add             one more: a passphrase (asked for twice), or with --recipient a key\n"
	"  change          another passphrase in the place of the one that is given or asked for\n"
	"  remove ID       a slot; the beginning of its id is enough\n"
	"  generate FILE   a new key: its secret half to FILE, its public half to the output\n"
	"\n"
	"      --repo DIR                 the repository (default: $AMBRO_REPOSITORY)\n"
	"      --key-file FILE            what opens it now: a secret key\n"
	"      --passphrase-file FILE     or a passphrase; without any of these: systemd's credentials\n"
	"      --passphrase-fd N          ambro-key and ambro-passphrase, or a prompt\n"
	"      --recipient KEY            add: a public key, or a file with one\n"
	"      --new-passphrase-file FILE add, change: do not ask for the new passphrase\n"
	"      --new-passphrase-fd N      the same, from a descriptor\n"
	"      --write-only               add: may add images, but not read any\n"
	"      --label TEXT               add: whose it is\n"
	"      --force                    remove: also the last slot that can read, or one that is damaged\n"
	"      --json                     the result as JSON\n"
	"  -h, --help                     this text\n"
	"\n"
	"A removed slot's owner may have kept what it opened: ambroctl-key(1).\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 3 a slot is damaged; 6 it is the last slot, or FILE\n"
	"exists; 7 not allowed, wrong key or passphrase; 130 interrupted.\n";

enum {
	OPTION_RECIPIENT = VERB_OPTION_OWN,
	OPTION_NEW_PASSPHRASE_FILE,
	OPTION_NEW_PASSPHRASE_FD,
	OPTION_WRITE_ONLY,
	OPTION_LABEL,
	OPTION_FORCE,
};

struct key_args {
	const char *word, *argument;
	const char *recipient, *label;
	struct key_source new; /* a passphrase */
	bool write_only, force;
};

static int key_open(struct repo **ret, struct err *e)
{
	_cleanup_(repo_freep) struct repo *repo = NULL;
	int r;

	r = repo_arg_require(e);
	if (r == 0)
		r = repo_arg_open(&arg_repo, REPO_ARG_FORMAT, &repo, e);
	if (!repo)
		return r;
	if (!repo->format.encrypted)
		return err_set(e, -EINVAL, "%s is not encrypted: it has no keys", arg_repo.path);
	*ret = TAKE_PTR(repo);
	return 0;
}

static int key_unlock(struct repo **ret, struct key_slot *ret_slot, struct err *e)
{
	_cleanup_(repo_freep) struct repo *repo = NULL;
	int r;

	r = key_open(&repo, e);
	if (!repo)
		return r;
	r = key_source_unlock_slot(&arg_repo.keys, repo, ret_slot, e);
	if (r < 0) {
		err_prefix(e, "%s", arg_repo.path);
		return r;
	}
	*ret = TAKE_PTR(repo);
	return 0;
}

/* ---- list --------------------------------------------------------------------------------------- */

static json_t *key_slot_json(const struct key_slot *s)
{
	char public[KEY_TEXT_MAX];
	json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:I}", "id", s->id, "type",
			      key_slot_type_name(s->type), "rights",
			      key_slot_rights_name(s->rights), "label",
			      render_json_string(s->label), "created_ns",
			      (json_int_t)s->created_ns);

	if (o && s->type == KEY_SLOT_RECIPIENT)
		json_object_set_new(o, "public", json_string(key_text_public(s->public, public)));
	return o;
}

static int key_list_json(const struct keys *keys)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < keys->count; i++)
		json_array_append_new(rows, key_slot_json(&keys->slots[i]));
	for (size_t i = 0; i < keys->damaged; i++) {
		const struct key_bad *b = &keys->bad[i];

		json_array_append_new(rows, json_pack("{s:o, s:s, s:b}", "id",
						      render_json_string(b->id), "damaged",
						      b->why.text, "foreign", (int)b->foreign));
	}
	return render_json(rows, stdout);
}

static int key_list_table(const struct keys *keys)
{
	static const char *const headings[] = { "ID", "TYPE", "RIGHTS", "MADE", "LABEL", NULL };
	_cleanup_(render_table_freep) struct render_table *t = NULL;
	int r;

	r = render_table_new(headings, &t);
	for (size_t i = 0; i < keys->count && r == 0; i++) {
		const struct key_slot *s = &keys->slots[i];
		char made[RENDER_MAX];
		const char *const cells[] = { s->id, key_slot_type_name(s->type),
					      key_slot_rights_name(s->rights),
					      render_time(s->created_ns, made), s->label };

		r = render_table_add(t, cells);
	}
	for (size_t i = 0; i < keys->damaged && r == 0; i++) {
		const struct key_bad *b = &keys->bad[i];
		const char *const state = b->foreign	   ? "foreign"
					  : b->may_be_good ? "unreadable"
							   : "damaged";
		const char *const cells[] = { b->id, state, "-", "-", b->why.text };

		r = render_table_add(t, cells);
	}
	if (r == 0)
		render_table_print(t, stdout);
	return r;
}

static int key_list(const struct key_args *a, struct err *e)
{
	_cleanup_(repo_freep) struct repo *repo = NULL;
	size_t useless = 0;
	struct keys keys = { 0 };
	int r;

	(void)a;
	r = key_open(&repo, e);
	if (!repo)
		return r;
	r = keys_load(repo->store, &repo->format, &keys, e);
	if (r == 0)
		r = arg_json ? key_list_json(&keys) : key_list_table(&keys);
	if (r == -ENOMEM)
		err_oom(e);
	for (size_t i = 0; i < keys.damaged; i++)
		useless += !keys.bad[i].may_be_good;
	if (r == 0 && useless) {
		verb_say("key",
			 "%zu in keys/ %s damaged, or another repository's: 'key remove --force' "
			 "removes what is not needed",
			 useless, useless == 1 ? "is" : "are");
	}
	keys_done(&keys);
	return r;
}

/* ---- add, change, remove ------------------------------------------------------------------------ */

static int key_added(const struct repo *repo, const struct key_slot_new *new, const char *id)
{
	char line[KEY_TEXT_MAX];
	const char *type = new->secret ? "passphrase" : "recipient";

	key_text_repository(repo->format.id, line);
	if (arg_json) {
		return render_json(json_pack("{s:s, s:s, s:s, s:s}", "id", id, "type", type,
					     "rights", key_slot_rights_name(new->rights),
					     "repository", line),
				   stdout);
	}
	printf("added key slot %s: a %s%s\n", id, type,
	       new->rights == CRYPT_RIGHTS_WRITE ? " that may add images, but not read any" : "");
	if (!new->secret) {
		printf("Put this line into the file of its secret key, so that no other repository "
		       "is taken for this one:\n%s\n",
		       line);
	}
	return 0;
}

/* It would be refused where it opens this repository (keys_unlock_key()). */
static int key_check_recipient(const struct key_args *a, const struct key_pair *k,
			       const struct repo *repo, struct err *e)
{
	if (!k->has_repository || !memcmp(k->repository, repo->format.id, REPO_ID_SIZE))
		return 0;
	return err_set(
		e, -EPERM,
		"%s has a line AMBRO-REPOSITORY-1, which says that the key is for another "
		"repository than %s: with that line it would not open this one; give the key "
		"itself, or a file without the line",
		a->recipient, arg_repo.path);
}

static int key_add(const struct key_args *a, struct err *e)
{
	_cleanup_(secret_freep) struct secret *passphrase = NULL;
	_cleanup_(key_pair_freep) struct key_pair *recipient = NULL;
	_cleanup_(repo_freep) struct repo *repo = NULL;
	struct key_slot_new new = {
		.rights = a->write_only ? CRYPT_RIGHTS_WRITE : CRYPT_RIGHTS_FULL,
		.label = a->label,
	};
	char id[KEY_SLOT_ID_MAX];
	int r = 0;

	/* what is wrong with it is told before a passphrase is asked for */
	if (a->recipient)
		r = key_source_read_recipient(a->recipient, &recipient, e);
	if (r < 0)
		return r;
	r = key_unlock(&repo, NULL, e);
	if (!repo)
		return r;
	r = recipient ? key_check_recipient(a, recipient, repo, e)
		      : key_source_new_passphrase(&a->new, &passphrase, e);
	if (r < 0)
		return r;
	if (recipient)
		memcpy(new.public, recipient->public, KEY_SIZE);
	new.secret = passphrase;
	r = keys_add(repo->store, &repo->format, repo->crypt, &new, id, e);
	return r < 0 ? r : key_added(repo, &new, id);
}

/* The new passphrase's slot is like the old one, @slot. */
static int key_change_slot(const struct key_args *a, const struct repo *repo,
			   const struct key_slot *slot, struct err *e)
{
	_cleanup_(secret_freep) struct secret *passphrase = NULL;
	struct key_slot_new new = { .rights = slot->rights, .label = slot->label };
	char id[KEY_SLOT_ID_MAX];
	int r;

	if (slot->type != KEY_SLOT_PASSPHRASE) {
		return err_set(e, -EINVAL,
			       "it was opened by a key, not a passphrase: add the new key, then "
			       "remove slot %s",
			       slot->id);
	}
	r = key_source_new_passphrase(&a->new, &passphrase, e);
	if (r < 0)
		return r;
	new.secret = passphrase;
	memcpy(id, slot->id, sizeof(id));
	r = keys_change(repo->store, &repo->format, repo->crypt, id, &new, e);
	return r < 0 ? r : key_added(repo, &new, id);
}

static int key_change(const struct key_args *a, struct err *e)
{
	_cleanup_(repo_freep) struct repo *repo = NULL;
	struct key_slot slot;
	int r;

	r = key_unlock(&repo, &slot, e);
	return repo ? key_change_slot(a, repo, &slot, e) : r;
}

static int key_remove(const struct key_args *a, struct err *e)
{
	_cleanup_(repo_freep) struct repo *repo = NULL;
	int r;

	r = key_open(&repo, e);
	if (!repo)
		return r;
	r = keys_remove(repo->store, &repo->format, a->argument, a->force, e);
	if (r == 0 && !arg_json)
		printf("removed key slot %s\n", a->argument);
	return r;
}

static int key_generate(const struct key_args *a, struct err *e)
{
	_cleanup_(newfile_freep) struct newfile *file = NULL;
	_cleanup_(key_pair_freep) struct key_pair *k = NULL;
	char public[KEY_TEXT_MAX];
	int r;

	r = newfile_open(a->argument, 0400, false, &file, e);
	if (r < 0)
		return r;
	k = key_pair_generate(e);
	if (!k)
		return -ENOMEM;
	r = key_source_write_key(file, k, NULL, e);
	if (r < 0)
		return r;
	key_text_public(k->public, public);
	if (arg_json) {
		return render_json(json_pack("{s:o, s:s}", "path", render_json_string(a->argument),
					     "public", public),
				   stdout);
	}
	puts(public);
	return 0;
}

/* ---- the verb ----------------------------------------------------------------------------------- */

struct key_word {
	const char *name;
	const char *argument; /* NULL: it takes none */
	int (*run)(const struct key_args *a, struct err *e);
};

static int key_parse_options(int argc, char **argv, struct key_args *a, int *ret_code)
{
	static const struct option options[] = {
		{ "recipient", required_argument, NULL, OPTION_RECIPIENT },
		{ "new-passphrase-file", required_argument, NULL, OPTION_NEW_PASSPHRASE_FILE },
		{ "new-passphrase-fd", required_argument, NULL, OPTION_NEW_PASSPHRASE_FD },
		{ "write-only", no_argument, NULL, OPTION_WRITE_ONLY },
		{ "label", required_argument, NULL, OPTION_LABEL },
		{ "force", no_argument, NULL, OPTION_FORCE },
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	uint64_t fd;
	int c;

	while ((c = verb_getopt(argc, argv, "", options, key_help, ret_code)) >= 0) {
		switch (c) {
		case OPTION_RECIPIENT:
			a->recipient = optarg;
			break;
		case OPTION_NEW_PASSPHRASE_FILE:
			a->new.passphrase_file = optarg;
			break;
		case OPTION_NEW_PASSPHRASE_FD:
			if (verb_parse_u64("key", "--new-passphrase-fd", optarg, 0, INT_MAX, &fd) <
			    0) {
				*ret_code = VERB_USAGE;
				return -EINVAL;
			}
			a->new.passphrase_fd = (int)fd;
			break;
		case OPTION_WRITE_ONLY:
			a->write_only = true;
			break;
		case OPTION_LABEL:
			a->label = optarg;
			break;
		case OPTION_FORCE:
			a->force = true;
			break;
		default:
			return -EINVAL;
		}
	}
	return 0;
}

/* Options that the word does not know were meant for something. */
static const char *key_misplaced(const struct key_args *a)
{
	bool add = !strcmp(a->word, "add"), change = !strcmp(a->word, "change");
	bool new = a->new.passphrase_file || a->new.passphrase_fd >= 0;

	if (!add && (a->recipient || a->write_only || a->label))
		return "--recipient, --write-only and --label are for 'key add'";
	if (!add && !change && new)
		return "a new passphrase is for 'key add' and 'key change'";
	if (a->recipient && new)
		return "--recipient or a new passphrase?";
	if (strcmp(a->word, "remove") != 0 && a->force)
		return "--force is for 'key remove'";
	return NULL;
}

static int key_run(const struct key_word *word, int argc, char **argv, struct key_args *a)
{
	const char *misplaced = key_misplaced(a);
	struct err e = { 0 };

	if (misplaced)
		return verb_usage("key", "%s", misplaced);
	if (argc - optind != 1 + !!word->argument) {
		return word->argument ? verb_usage("key", "%s takes a %s", a->word, word->argument)
				      : verb_usage("key", "%s takes no argument", a->word);
	}
	a->argument = word->argument ? argv[optind + 1] : NULL;
	return word->run(a, &e) < 0 ? verb_fail("key", &e) : VERB_OK;
}

int verb_key(int argc, char **argv)
{
	static const struct key_word words[] = {
		{ "add", NULL, key_add },
		{ "change", NULL, key_change },
		{ "generate", "file", key_generate },
		{ "list", NULL, key_list },
		{ "remove", "slot's id", key_remove },
	};
	struct key_args a = { .new = KEY_SOURCE_NONE };
	int code = VERB_USAGE;

	if (key_parse_options(argc, argv, &a, &code) < 0)
		return code;
	a.word = optind < argc ? argv[optind] : "";
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!strcmp(a.word, words[i].name))
			return key_run(&words[i], argc, argv, &a);
	}
	return verb_usage("key", "%s%slist, add, change, remove or generate?", a.word,
			  *a.word ? ": " : "");
}
