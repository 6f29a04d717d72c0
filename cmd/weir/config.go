package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// defaultConfigFile is read from the working directory when it is there.
const defaultConfigFile = "weir.yaml"

// The bounds on files the configuration names.
const (
	maxConfigBytes = 1 << 20
	maxSecretBytes = 16 << 10
)

// configInput is everything a configuration is made of.
type configInput struct {
	// flags holds the flags given, by the name of their setting.
	flags map[string]string
	// file is the value of --config, or empty.
	file   string
	getenv func(string) string
	cwd    string
}

// sourceKind is where a value comes from. Higher kinds win.
type sourceKind uint8

const (
	sourceDefault sourceKind = iota
	sourceFile
	sourceEnv
	sourceFlag
)

// origin is where one value comes from.
type origin struct {
	kind sourceKind
	// where is the variable, the flag or the file and line.
	where string
}

// String names the origin in a message.
func (o origin) String() string {
	switch o.kind {
	case sourceFlag:
		return "flag --" + o.where
	case sourceEnv:
		return "environment variable " + o.where
	case sourceFile:
		return o.where
	case sourceDefault:
	}
	return "default"
}

// loader builds one settings struct and collects what is wrong on the way,
// so that a person sees all of it at once.
type loader struct {
	in       configInput
	out      *settings
	problems []problem
	// base holds by setting name the directory a relative path starts from.
	base map[string]string
}

// loadSettings merges flags, environment, file and defaults, in this
// precedence, and checks every value. The error, if any, is a *configError
// that lists everything that is wrong.
func loadSettings(in configInput) (*settings, error) {
	s, problems := readSettings(in)
	if len(problems) > 0 {
		return nil, &configError{problems: problems}
	}
	return s, nil
}

// readSettings is loadSettings for who can do with less: a setting whose value
// is wrong keeps the one of the place that comes after it.
func readSettings(in configInput) (*settings, []problem) {
	l := &loader{
		in: in,
		out: &settings{
			origins:     make(map[string]origin, len(table)),
			secretFiles: make(map[string]*string),
			written:     make(map[string]writtenValue),
			input:       in,
		},
		base: make(map[string]string),
	}
	l.applyDefaults()
	l.applyFile()
	l.applyEnv()
	l.applyFlags()
	l.resolvePaths()
	l.readSecrets()
	l.checkListeners()
	l.warnAccess()
	return l.out, l.problems
}

// set gives the setting a value from somewhere, or records why it cannot.
func (l *loader) set(st *setting, text string, from origin) {
	val := st.bind(l.out)
	l.out.written[st.name] = writtenValue{text: secret(text), from: from}
	if err := val.parse(text); err != nil {
		l.problems = append(l.problems, problem{
			where: from.String(), name: st.name, wrong: err.Error(), right: remedy(err, val.expect()),
		})
		return
	}
	l.out.origins[st.name] = from
}

// remedy is what would be right, unless the error has said so itself.
func remedy(err error, expected string) string {
	if _, ok := errors.AsType[helpfulError](err); ok {
		return ""
	}
	return expected
}

func (l *loader) applyDefaults() {
	for i := range table {
		st := &table[i]
		text := st.fallback
		if st.defaultFrom != nil {
			text = st.defaultFrom(l.in.getenv)
		}
		l.out.origins[st.name] = origin{}
		if text != "" {
			l.set(st, text, origin{})
		}
	}
}

// applyEnv takes the first variable of each setting that is not blank, as
// LangSmith's SDKs do: a blank variable counts as unset.
func (l *loader) applyEnv() {
	for i := range table {
		st := &table[i]
		for _, name := range st.env() {
			if text := l.in.getenv(name); strings.TrimSpace(text) != "" {
				l.set(st, text, origin{kind: sourceEnv, where: name})
				break
			}
		}
	}
}

func (l *loader) applyFlags() {
	for i := range table {
		st := &table[i]
		text, given := l.in.flags[st.name]
		if !given {
			continue
		}
		from := origin{kind: sourceFlag, where: st.flag()}
		if text == "" && !st.cleared {
			l.out.written[st.name] = writtenValue{from: from}
			l.problems = append(l.problems, problem{
				where: from.String(), name: st.name, wrong: "it is empty", right: st.bind(l.out).expect(),
			})
			continue
		}
		l.set(st, text, from)
	}
}

// applyFile reads the configuration file, if there is one.
func (l *loader) applyFile() {
	path, from := l.in.file, "flag --config"
	if path == "" {
		path, from = strings.TrimSpace(l.in.getenv("WEIR_CONFIG")), "environment variable WEIR_CONFIG"
	}
	asked := path != ""
	if !asked {
		path = defaultConfigFile
	}
	absolute := l.absolute(path, l.in.cwd)
	content, err := readBounded(absolute, maxConfigBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !asked:
		l.warnOtherNames()
		return
	case err != nil:
		if !asked {
			from = path
		}
		l.problems = append(l.problems, problem{
			where: from, wrong: "cannot read the configuration file: " + err.Error(), right: "a readable YAML file",
		})
		return
	}
	l.out.file = absolute
	l.applyYAML(path, content)
	for name, o := range l.out.origins {
		if o.kind == sourceFile {
			l.base[name] = filepath.Dir(absolute)
		}
	}
}

// warnOtherNames notices a file that was meant to be read and is not.
func (l *loader) warnOtherNames() {
	for _, name := range []string{"weir.yml", ".weir.yaml", "weir.json"} {
		if _, err := os.Stat(filepath.Join(l.in.cwd, name)); err == nil {
			l.out.warnings = append(l.out.warnings,
				fmt.Sprintf("%s is not read: rename it to %s, or name it with --config", name, defaultConfigFile))
		}
	}
}

// resolvePaths makes every path absolute: what the file names is relative to
// the file, everything else to the working directory.
func (l *loader) resolvePaths() {
	for i := range table {
		st := &table[i]
		val, isPath := st.bind(l.out).(pathValue)
		if !isPath || *val.to == "" {
			continue
		}
		*val.to = l.absolute(*val.to, l.baseOf(st.name))
	}
	for _, name := range []string{"grpc_addr", "http_addr", "admin_addr", "metrics_addr"} {
		val, isAddr := lookup(name).bind(l.out).(addrValue)
		if !isAddr {
			continue
		}
		if path, isSocket := val.to.socket(); isSocket {
			*val.to = listenAddr(unixPrefix + l.absolute(path, l.baseOf(name)))
		}
	}
}

func (l *loader) baseOf(name string) string {
	if l.out.origins[name].kind == sourceFile {
		return l.base[name]
	}
	return l.in.cwd
}

func (l *loader) absolute(path, base string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home := l.in.getenv("HOME"); home != "" {
			return filepath.Join(home, rest)
		}
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}

// readSecrets replaces a secret by the content of its file where the file was
// named with at least the secret's own precedence: a weir-specific file wins
// over a variable that applications share.
func (l *loader) readSecrets() {
	for i := range table {
		st := &table[i]
		if !st.onlyEnv {
			continue
		}
		path := *l.out.secretFile(st.name)
		from := l.out.origins[st.name+fileSuffix]
		if path == "" || from.kind < l.out.origins[st.name].kind {
			continue
		}
		val := st.bind(l.out)
		content, err := readBounded(path, maxSecretBytes)
		if err == nil && strings.TrimSpace(string(content)) == "" {
			err = fmt.Errorf("%s is empty", path)
		}
		if err == nil {
			l.out.written[st.name] = writtenValue{text: secret(strings.TrimSuffix(string(content), "\n")), from: from}
			err = val.parse(string(content))
		}
		if err != nil {
			l.problems = append(l.problems, problem{
				where: from.String(), name: st.name + fileSuffix, wrong: err.Error(),
				right: "a readable file that holds " + val.expect() + " and nothing else",
			})
			continue
		}
		l.out.origins[st.name] = from
		l.warnReadable(path)
	}
}

// warnReadable warns of a secret every user of the machine can read.
func (l *loader) warnReadable(path string) {
	const othersRead = 0o004
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&othersRead != 0 {
		l.out.warnings = append(l.out.warnings,
			fmt.Sprintf("%s holds a secret and every user of this machine can read it: run `chmod 600 %s`", path, path))
	}
}

// checkListeners refuses two listeners on one address before the second one
// fails to bind. Port 0 asks for any free port, so it never collides.
func (l *loader) checkListeners() {
	taken := make(map[listenAddr]string)
	for _, name := range []string{"grpc_addr", "http_addr", "admin_addr", "metrics_addr"} {
		val, isAddr := lookup(name).bind(l.out).(addrValue)
		if !isAddr || val.to.off() || strings.HasSuffix(string(*val.to), ":0") {
			continue
		}
		if other, used := taken[*val.to]; used {
			l.problems = append(l.problems, problem{
				where: l.out.from(name), name: name,
				wrong: fmt.Sprintf("%s is already %s (%s)", *val.to, other, l.out.from(other)),
				right: "each listener an address of its own, or switch one off with off",
			})
			continue
		}
		taken[*val.to] = name
	}
}

// readBounded reads a regular file (or pipe) of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s is larger than %s", path, formatBytes(limit))
	}
	return content, nil
}
