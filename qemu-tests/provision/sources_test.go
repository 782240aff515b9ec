package provision

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fixtures are machines as they are found; host names are made up.
var fixtures = []struct {
	name      string
	osRelease string
	files     map[string]string // below etc/apt
	want      []string          // uri suites components, of the own sources
	backports string            // uri suite of the backports
}{
	{
		name:      "Debian container, deb822",
		osRelease: "ID=debian\nVERSION_CODENAME=bookworm\n",
		files: map[string]string{"sources.list.d/debian.sources": `Types: deb
# http://snapshot.example/archive
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`,
			"sources.list.d/node.sources":                   "Types: deb\nURIs: http://third.example/node\nSuites: nodistro\nComponents: main\n",
			"sources.list.d/vendor.list":                    "deb [arch=amd64 signed-by=/etc/apt/keyrings/vendor.gpg] http://third.example/vendor bookworm main\n",
			"sources.list.d/other.list.disabled-by-upgrade": "deb http://disabled.example/ bookworm main\n",
		},
		want: []string{
			"http://mirror.example/debian bookworm bookworm-updates main",
			"http://mirror.example/debian-security bookworm-security main",
		},
		backports: "http://mirror.example/debian bookworm-backports",
	},
	{
		name:      "Debian server, one-line",
		osRelease: "ID=debian\nVERSION_CODENAME=\"bookworm\"\n",
		files: map[string]string{"sources.list": `# main
deb cdrom:[Debian GNU/Linux 12.5.0 _Bookworm_]/ bookworm main
deb http://mirror.example/debian/ bookworm main contrib non-free-firmware # all of it
deb-src http://mirror.example/debian/ bookworm main
	deb	[ arch=amd64,i386 trusted=no ]	http://mirror.example/debian bookworm-updates main
deb http://mirror.example/debian bookworm-backports main
deb http://mirror.example/debian-security bookworm-security main
deb http://third.example/docker bookworm stable
deb http://flat.example/ ./
deb
deb [broken http://third.example/ bookworm main
debian http://third.example/ bookworm main
`},
		want: []string{
			"http://mirror.example/debian/ bookworm main",
			"http://mirror.example/debian bookworm-updates main",
			"http://mirror.example/debian-security bookworm-security main",
		},
		backports: "http://mirror.example/debian/ bookworm-backports",
	},
	{
		name:      "Ubuntu, deb822 with backports in the same stanza",
		osRelease: "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\nUBUNTU_CODENAME=noble\n",
		files: map[string]string{"sources.list.d/ubuntu.sources": `Types: deb deb-src
URIs: http://mirror.example/ubuntu/
Suites: noble noble-updates noble-backports
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/ubuntu/
Suites: noble
Components: main

Types: deb
URIs: http://security.example/ubuntu/
Suites: noble-security
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
`},
		want: []string{
			"http://mirror.example/ubuntu/ noble noble-updates main universe",
			"http://security.example/ubuntu/ noble-security main universe",
		},
		backports: "http://mirror.example/ubuntu/ noble-backports",
	},
	{
		name:      "derivative of Ubuntu",
		osRelease: "ID=mint\nID_LIKE=\"ubuntu debian\"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n",
		files: map[string]string{"sources.list.d/official.list": `deb http://mint.example wilma main upstream
deb http://mirror.example/ubuntu noble main restricted universe
`},
		want:      []string{"http://mirror.example/ubuntu noble main universe"},
		backports: "http://mirror.example/ubuntu noble-backports",
	},
	{
		name:      "mirror that signs for itself, with the key in the file",
		osRelease: "ID=debian\nVERSION_CODENAME=trixie\n",
		files: map[string]string{"sources.list.d/corp.sources": `Types: deb
URIs: https://corp.example/debian
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBGPL0BUBEADmW5NdOOHwPIJlgPu6JDcKw/NZJPR8lsD3K87ZM18gzyQZJD+w
 -----END PGP PUBLIC KEY BLOCK-----
`},
		want:      []string{"https://corp.example/debian trixie main"},
		backports: "https://corp.example/debian trixie-backports",
	},
}

func (s source) summary() string {
	return strings.Join(slices.Concat(s.uris, s.suites, s.components), " ")
}

func TestSources(t *testing.T) {
	for _, test := range fixtures {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			write := func(name, text string) {
				path := filepath.Join(root, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			write("etc/os-release", test.osRelease)
			for name, text := range test.files {
				write("etc/apt/"+name, text)
			}
			d, err := readDistro(root)
			if err != nil {
				t.Fatal(err)
			}
			all, err := readSources(root)
			if err != nil {
				t.Fatal(err)
			}
			own, main, err := d.pick(all)
			backports := main.of(d.backports())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range own {
				got = append(got, s.summary())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("sources (-want +got):\n%s", diff)
			}
			if got := strings.Join(append(backports.uris, backports.suites...), " "); got != test.backports {
				t.Errorf("backports %q, want %q", got, test.backports)
			}
		})
	}
}

func TestSourceKeepsItsOptions(t *testing.T) {
	got := parseList("deb [arch=amd64 lang=de target+=x signed-by=/a.gpg,/b.gpg check-valid-until=no] http://mirror.example/ alpha main\n")
	want := `Types: deb
URIs: http://mirror.example/
Suites: alpha
Components: main
Architectures: amd64
Languages: none
Targets: Packages
signed-by: /a.gpg /b.gpg
check-valid-until: no
`
	if len(got) != 1 || got[0].String() != want {
		t.Errorf("got %v, want %s", got, want)
	}
	key := "Signed-By: \n -----BEGIN-----\n .\n abc=\n -----END-----\n"
	got = parseSources("Types: deb\nURIs: x:y\nSuites: alpha\nComponents: main\nArchitectures: i386\n" + key)
	if len(got) != 1 || !strings.HasSuffix(got[0].String(), key) {
		t.Errorf("key: %v", got)
	}
}

func TestNoSources(t *testing.T) {
	d := distro{names: []string{"debian"}, codename: "bookworm"}
	for name, text := range map[string]string{
		"none":          "",
		"security only": "deb http://mirror.example/debian-security bookworm-security main\n",
		"other release": "deb http://mirror.example/debian trixie main\n",
		"disc only":     "deb cdrom:[disc]/ bookworm main\n",
	} {
		if own, _, err := d.pick(parseList(text)); !errors.Is(err, ErrNoSources) {
			t.Errorf("%s: %v, %v", name, own, err)
		}
	}
}

// What is read and written again is the same, whatever was read, and holds nothing but one stanza.
func FuzzSources(f *testing.F) {
	for _, fixture := range fixtures {
		for _, text := range fixture.files {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range append(parseList(text), parseSources(text)...) {
			written := s.String()
			again := parseSources(written)
			if len(again) != 1 {
				t.Fatalf("%q is read as %d sources", written, len(again))
			}
			if got := again[0].String(); got != written {
				t.Fatalf("written %q, then %q", written, got)
			}
		}
	})
}
