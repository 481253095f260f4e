/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/s3_conf.h"

#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *env(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

static const char *first(const char *set, const char *a, const char *b, const char *otherwise)
{
	if (set[0])
		return set;
	if (env(a))
		return env(a);
	return b && env(b) ? env(b) : otherwise;
}

/* ---- where ---- */

static bool bucket_ok(const char *s, size_t len)
{
	if (len < 3 || len >= S3_BUCKET_MAX || !isalnum((unsigned char)s[0]) ||
		!isalnum((unsigned char)s[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!islower((unsigned char)s[i]) && !isdigit((unsigned char)s[i]) &&
			!strchr("-._", s[i]) && !isupper((unsigned char)s[i]))
			return false;
	return true;
}

/* Words of [A-Za-z0-9._-], none beginning with a dot, with single slashes in between: so that no
 * key needs escaping, in a URL or in XML. */
static bool prefix_ok(const char *s)
{
	bool begins = true;

	for (; *s; s++) {
		if (begins && (*s == '.' || *s == '/'))
			return false;
		if (!isalnum((unsigned char)*s) && !strchr("._-/", *s))
			return false;
		begins = *s == '/';
	}
	return !begins;
}

static int split_place(const char *rest, struct s3_place *p, struct err *e)
{
	const char *slash = strchr(rest, '/'), *prefix = slash ? slash + 1 : "";
	size_t len = slash ? (size_t)(slash - rest) : strlen(rest);

	if (!bucket_ok(rest, len))
		return err_set(e, -EINVAL,
			"'s3:%.100s': a store is s3:BUCKET[/PREFIX], where BUCKET is 3 to 63 of "
			"letters, digits, '-' and '.'",
			rest);
	if (slash && (!prefix_ok(prefix) || strlen(prefix) > S3_PREFIX_MAX))
		return err_set(e, -EINVAL,
			"'s3:%.100s': a prefix is words of letters, digits, '.', '_' and '-', with "
			"single slashes in between, %d bytes at most",
			rest, S3_PREFIX_MAX);
	snprintf(p->bucket, sizeof(p->bucket), "%.*s", (int)len, rest);
	snprintf(p->prefix, sizeof(p->prefix), "%s%s", prefix, *prefix ? "/" : "");
	return 0;
}

static int bad_endpoint(const char *url, struct err *e)
{
	/* Not shown when it holds an '@': what is in front of that may be a secret. */
	return err_set(e, -EINVAL,
		"s3.endpoint%s%.100s%s is not an endpoint; write http://HOST[:PORT] or "
		"https://HOST[:PORT]",
		strchr(url, '@') ? "" : " = '", strchr(url, '@') ? "" : url,
		strchr(url, '@') ? "" : "'");
}

int s3_conf_place(const char *rest, const struct config *cfg, struct s3_place *p, struct err *e)
{
	const char *url = first(cfg->s3_endpoint, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "");
	const char *region = first(cfg->s3_region, "AWS_REGION", "AWS_DEFAULT_REGION", "us-east-1");
	bool amazon = !url[0], path;
	const char *host;
	int rc = split_place(rest, p, e), n;
	size_t len;

	if (rc < 0)
		return rc;
	if (amazon)
		n = snprintf(
			p->endpoint, sizeof(p->endpoint), "https://s3.%s.amazonaws.com", region);
	else
		n = snprintf(p->endpoint, sizeof(p->endpoint), "%s", url);
	len = strlen(p->endpoint);
	while (len && p->endpoint[len - 1] == '/')
		p->endpoint[--len] = 0;
	host = strstr(p->endpoint, "://");
	host = host ? host + 3 : "";
	if ((strncmp(p->endpoint, "http://", 7) && strncmp(p->endpoint, "https://", 8)) || !*host ||
		strpbrk(host, "/@?# ") || n >= (int)sizeof(p->endpoint))
		return bad_endpoint(url, e);
	/* A bucket with dots is in no certificate of the kind *.s3... */
	path = !strcmp(cfg->s3_addressing, "path") ||
	       (!strcmp(cfg->s3_addressing, "auto") && (!amazon || strchr(p->bucket, '.')));
	if (path)
		snprintf(p->base, sizeof(p->base), "%s/%s", p->endpoint, p->bucket);
	else
		snprintf(p->base, sizeof(p->base), "%.*s%s.%s", (int)(host - p->endpoint),
			p->endpoint, p->bucket, host);
	return 0;
}

/* ---- who ---- */

static bool word(const char *s)
{
	for (; *s; s++)
		if (!isgraph((unsigned char)*s))
			return false;
	return true;
}

int s3_conf_peer(const struct config *cfg, struct http_peer *p, struct err *e)
{
	const char *region = first(cfg->s3_region, "AWS_REGION", "AWS_DEFAULT_REGION", "us-east-1");

	memset(p, 0, sizeof(*p));
	if (strlen(region) >= sizeof(p->region) || !word(region) || strchr(region, ':'))
		return err_set(e, -EINVAL, "'%.100s' is not a region", region);
	snprintf(p->region, sizeof(p->region), "%s", region);
	snprintf(p->ca_file, sizeof(p->ca_file), "%s",
		first(cfg->s3_ca_file, "AWS_CA_BUNDLE", NULL, ""));
	p->verify = cfg->s3_verify;
	p->timeout_ms = cfg->s3_timeout_ms;
	return 0;
}

/* No message shows a value: one that does not fit may be a secret in the wrong place. */
static int take(char *out, size_t room, const char *name, const char *value, struct err *e)
{
	if (strlen(value) >= room || !word(value))
		return err_set(e, -EINVAL, "%s is too long, or holds blanks", name);
	snprintf(out, room, "%s", value);
	return 0;
}

static int take_pair(struct http_peer *p, const char *from, const char *key, const char *secret,
	const char *token, struct err *e)
{
	char name[300];
	int rc;

	snprintf(name, sizeof(name), "%s: the access key", from);
	rc = take(p->access_key, sizeof(p->access_key), name, key, e);
	snprintf(name, sizeof(name), "%s: the secret key", from);
	if (rc == 0)
		rc = take(p->secret_key, sizeof(p->secret_key), name, secret, e);
	snprintf(name, sizeof(name), "%s: the session token", from);
	if (rc == 0)
		rc = take(p->token, sizeof(p->token), name, token ? token : "", e);
	return rc;
}

static char *trim(char *s)
{
	size_t n;

	while (isspace((unsigned char)*s))
		s++;
	for (n = strlen(s); n && isspace((unsigned char)s[n - 1]);)
		s[--n] = 0;
	return s;
}

struct profile {
	char key[HTTP_KEY_MAX], secret[HTTP_KEY_MAX], token[HTTP_TOKEN_MAX];
};

static void take_line(struct profile *p, char *line)
{
	static const struct {
		const char *name;
		size_t at, room;
	} fields[] = {
		{"aws_access_key_id", offsetof(struct profile, key), HTTP_KEY_MAX},
		{"aws_secret_access_key", offsetof(struct profile, secret), HTTP_KEY_MAX},
		{"aws_session_token", offsetof(struct profile, token), HTTP_TOKEN_MAX},
	};
	char *eq = strchr(line, '=');

	if (!eq)
		return;
	*eq = 0;
	for (size_t i = 0; i < 3; i++)
		if (!strcmp(trim(line), fields[i].name))
			snprintf((char *)p + fields[i].at, fields[i].room, "%s", trim(eq + 1));
}

/* True when the file has the section. */
static bool read_profile(FILE *f, const char *name, struct profile *p)
{
	char line[HTTP_TOKEN_MAX + 64];
	bool inside = false, found = false;

	while (fgets(line, sizeof(line), f)) {
		char *s = trim(line);

		if (*s == '[') {
			size_t n = strlen(s);

			if (s[n - 1] == ']')
				s[n - 1] = 0;
			inside = !strcmp(trim(s + 1), name);
			found = found || inside;
		} else if (inside && *s != '#' && *s != ';') {
			take_line(p, s);
		}
	}
	explicit_bzero(line, sizeof(line));
	return found;
}

static void credentials_path(char *out, size_t room)
{
	const char *home = env("HOME");
	const struct passwd *pw = home ? NULL : getpwuid(getuid());

	if (env("AWS_SHARED_CREDENTIALS_FILE"))
		snprintf(out, room, "%s", env("AWS_SHARED_CREDENTIALS_FILE"));
	else
		snprintf(out, room, "%s/.aws/credentials",
			home		   ? home
			: pw && pw->pw_dir ? pw->pw_dir
					   : "");
}

static int from_file(struct http_peer *out, struct err *e)
{
	const char *name = env("AWS_PROFILE") ? env("AWS_PROFILE") : "default";
	struct profile p = {.key = ""};
	char path[4096], from[256];
	bool found;
	FILE *f;
	int rc;

	credentials_path(path, sizeof(path));
	f = fopen(path, "re");
	if (!f)
		return err_set(e, -EACCES,
			"no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, "
			"and "
			"%.200s: %s",
			path, strerror(errno));
	found = read_profile(f, name, &p);
	fclose(f);
	snprintf(from, sizeof(from), "%.150s, profile '%.60s'", path, name);
	if (!found)
		rc = err_set(e, -EACCES, "%s: there is no such profile", from);
	else if (!p.key[0] || !p.secret[0])
		rc = err_set(e, -EACCES,
			"%s: aws_access_key_id or aws_secret_access_key is missing", from);
	else
		rc = take_pair(out, from, p.key, p.secret, p.token, e);
	explicit_bzero(&p, sizeof(p));
	return rc;
}

int s3_conf_credentials(struct http_peer *p, struct err *e)
{
	const char *key = env("AWS_ACCESS_KEY_ID"), *secret = env("AWS_SECRET_ACCESS_KEY");

	if (!key && !secret)
		return from_file(p, e);
	if (!key || !secret)
		return err_set(e, -EACCES, "%s is set, but %s is not",
			key ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
			key ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
	return take_pair(p, "environment", key, secret, env("AWS_SESSION_TOKEN"), e);
}
