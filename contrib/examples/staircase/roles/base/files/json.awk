# Flattens JSON to lines "path<TAB>value", so that a script needs neither jq nor python:
#   {"node": {"name": "a"}, "nodes": [{"name": "a"}]}   ->   node.name	a
#                                                            nodes.0.name	a
# Strings come without quotes and with \n, \t and the like undone (\u only for ASCII, else '?'); a newline in a value becomes a space.
{ text = text $0 "\n" }

END {
	at = 1
	value("")
}

function fail(what) {
	print "json.awk: " what " at character " at > "/dev/stderr"
	exit 1
}

function blank() {
	while (substr(text, at, 1) ~ /^[ \t\r\n]$/)
		at++
}

function join(path, key) {
	return path == "" ? key : path "." key
}

function value(path,    c, start, v) {
	blank()
	c = substr(text, at, 1)
	if (c == "{") {
		object(path)
	} else if (c == "[") {
		array(path)
	} else if (c == "\"") {
		v = string()
		gsub(/\n/, " ", v)
		print path "\t" v
	} else {
		start = at
		while (substr(text, at, 1) ~ /^[-+.0-9a-zA-Z]$/)
			at++
		if (at == start)
			fail("unexpected '" c "'")
		print path "\t" substr(text, start, at - start)
	}
}

function object(path,    c, key) {
	at++
	blank()
	if (substr(text, at, 1) == "}") {
		at++
		return
	}
	for (;;) {
		blank()
		if (substr(text, at, 1) != "\"")
			fail("expected a name")
		key = string()
		blank()
		if (substr(text, at, 1) != ":")
			fail("expected ':'")
		at++
		value(join(path, key))
		blank()
		c = substr(text, at, 1)
		at++
		if (c == "}")
			return
		if (c != ",")
			fail("expected ',' or '}'")
	}
}

function array(path,    c, n) {
	at++
	blank()
	if (substr(text, at, 1) == "]") {
		at++
		return
	}
	for (n = 0;; n++) {
		value(join(path, n))
		blank()
		c = substr(text, at, 1)
		at++
		if (c == "]")
			return
		if (c != ",")
			fail("expected ',' or ']'")
	}
}

function string(    c, out, code, i) {
	out = ""
	for (at++; at <= length(text); at++) {
		c = substr(text, at, 1)
		if (c == "\"") {
			at++
			return out
		}
		if (c == "\\") {
			c = substr(text, ++at, 1)
			if (c == "n") c = "\n"
			else if (c == "t") c = "\t"
			else if (c == "r") c = "\r"
			else if (c == "b" || c == "f") c = " "
			else if (c == "u") {
				code = 0
				for (i = 1; i <= 4; i++)
					code = code * 16 + index("0123456789abcdef", tolower(substr(text, at + i, 1))) - 1
				at += 4
				c = code < 128 ? sprintf("%c", code) : "?"
			}
		}
		out = out c
	}
	fail("a string without its end")
}
