package provision

import (
	"path"
	"slices"
	"strings"
)

// source is an entry of apt's sources: archives of binary packages (sources.list(5)).
type source struct {
	uris       []string
	suites     []string
	components []string
	options    stanza // further fields, such as Signed-By, in the names of deb822
}

// ownFields are the fields of a source that are not options, and the options that this package sets itself.
var ownFields = []string{"Types", "URIs", "Suites", "Components", "Enabled", "Architectures", "Languages", "Targets", "PDiffs",
	"X-Repolib-Name", "X-Repolib-ID", "Description"}

// parseSources reads a file in deb822 format (.sources).
func parseSources(text string) []source {
	var all []source
	for _, st := range parseStanzas(text) {
		enabled, set := st.get("Enabled")
		if set && slices.Contains([]string{"no", "false", "0", "off", "without", "disable"}, strings.ToLower(enabled)) {
			continue
		}
		if !slices.Contains(st.words("Types"), "deb") {
			continue
		}
		s := source{uris: st.words("URIs"), suites: st.words("Suites"), components: st.words("Components")}
		for _, f := range st {
			if !slices.ContainsFunc(ownFields, func(own string) bool { return strings.EqualFold(own, f.name) }) {
				s.options = append(s.options, f)
			}
		}
		if len(s.uris) > 0 && len(s.suites) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// parseList reads a file in one-line format: "deb [ option=value... ] uri suite component...".
func parseList(text string) []source {
	var all []source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '\t') {
			continue
		}
		rest = strings.TrimSpace(rest)
		var s source
		if strings.HasPrefix(rest, "[") {
			options, after, closed := strings.Cut(rest[1:], "]")
			if !closed {
				continue
			}
			s.options, rest = listOptions(options), after
		}
		words := strings.Fields(rest)
		if len(words) < 2 {
			continue
		}
		s.uris, s.suites, s.components = words[:1], words[1:2], words[2:]
		all = append(all, s)
	}
	return all
}

// listOptions turns the options of one-line format into fields. Both have the same names but for three, which this package sets itself.
func listOptions(text string) stanza {
	var st stanza
	for _, word := range strings.Fields(text) {
		name, value, ok := strings.Cut(word, "=")
		switch {
		case !ok || !isOptionName(name):
		case slices.Contains([]string{"arch", "lang", "target", "pdiffs"}, strings.ToLower(name)):
		default:
			st = append(st, field{name, strings.ReplaceAll(value, ",", " ")})
		}
	}
	return st
}

// isOptionName reports whether name is made of letters with single dashes between them.
func isOptionName(name string) bool {
	for part := range strings.SplitSeq(name, "-") {
		if part == "" || strings.Trim(strings.ToLower(part), "abcdefghijklmnopqrstuvwxyz") != "" {
			return false
		}
	}
	return true
}

// signedBy reports whether the source is signed with a key of one of the names, or with whatever the system trusts.
func (s source) signedBy(names []string) bool {
	value, set := s.options.get("Signed-By")
	if !set {
		return true
	}
	if strings.Contains(value, "\n") || !strings.HasPrefix(value, "/") {
		return false
	}
	key := strings.ToLower(path.Base(strings.Fields(value)[0]))
	return slices.ContainsFunc(names, func(name string) bool { return name != "" && strings.HasPrefix(key, name) })
}

// String returns the source in deb822 format, for the packages of amd64 and nothing else.
func (s source) String() string {
	st := stanza{
		{"Types", "deb"},
		{"URIs", strings.Join(s.uris, " ")},
		{"Suites", strings.Join(s.suites, " ")},
		{"Components", strings.Join(s.components, " ")},
		{"Architectures", "amd64"},
		{"Languages", "none"},
		{"Targets", "Packages"},
	}
	return append(st, s.options...).String()
}
