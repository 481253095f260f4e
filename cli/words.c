/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/words.h"

#include <string.h>

const struct argp_child cli_kids[] = {{&cli_open_argp, 0, NULL, 10}, {0}};
const struct argp_child cli_write_kids[] = {
	{&cli_open_argp, 0, NULL, 10}, {&cli_write_argp, 0, NULL, 0}, {0}};

error_t cli_words_parse(int key, char *arg, struct argp_state *s)
{
	struct cli_words *a = s->input;

	switch (key) {
	case ARGP_KEY_INIT:
		s->child_inputs[0] = &a->open;
		if (a->writes)
			s->child_inputs[1] = &a->open;
		return 0;
	case ARGP_KEY_ARG:
		if (a->words == a->max)
			argp_error(s, "what is '%s'?", arg);
		a->word[a->words++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (a->words < a->min)
			argp_error(s, "an argument is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cli_told(const char *why, int rc)
{
	return cli_fail("%s", why[0] ? why : strerror(-rc));
}
