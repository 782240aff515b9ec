package provision

import "strings"

// stanza is a paragraph of "Name: value" fields, the form of apt's .sources files and of apt-cache's answers (deb822(5)).
type stanza []field

type field struct {
	name  string
	value string // further lines follow after "\n", each with the blank it began with
}

// get returns the value of a field, whose name has no case.
func (s stanza) get(name string) (string, bool) {
	for _, f := range s {
		if strings.EqualFold(f.name, name) {
			return f.value, true
		}
	}
	return "", false
}

// words returns the blank-separated words of a field.
func (s stanza) words(name string) []string {
	value, _ := s.get(name)
	return strings.Fields(value)
}

func (s stanza) String() string {
	var b strings.Builder
	for _, f := range s {
		b.WriteString(f.name + ": " + f.value + "\n")
	}
	return b.String()
}

// parseStanzas reads paragraphs separated by blank lines. Lines that begin with '#' are comments wherever they
// stand; lines that are no field are passed over, as apt would report them itself.
func parseStanzas(text string) []stanza {
	var all []stanza
	var cur stanza
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "":
			if cur != nil {
				all = append(all, cur)
			}
			cur = nil
		case line[0] == ' ' || line[0] == '\t':
			if len(cur) > 0 {
				cur[len(cur)-1].value += "\n" + line
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if name = strings.TrimSpace(name); ok && name != "" {
				cur = append(cur, field{name, strings.TrimSpace(value)})
			}
		}
	}
	if cur != nil {
		all = append(all, cur)
	}
	return all
}
