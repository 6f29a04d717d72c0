package main

import (
	"path/filepath"
	"strings"
	"time"

	"weir/proxy/upstream"
)

// setting is one row of the table that drives flags, environment, file,
// reference page and `weir config`.
type setting struct {
	// name is the path of the YAML field: "forward.linger". The flag
	// (--forward-linger) and the variable (WEIR_FORWARD_LINGER) follow from it.
	name  string
	group string
	help  string
	// placeholder stands for the value in the help of the flag.
	placeholder string
	// fallback is the default as text; defaultFrom computes it where it
	// depends on the environment, and fallback then describes it.
	fallback    string
	defaultFrom func(getenv func(string) string) string
	// moreEnv are further environment variables, tried in order after the
	// setting's own.
	moreEnv []string
	// onlyEnv marks a secret: no flag, no field, and no variable beyond
	// moreEnv. A companion setting, name_file, names a file that holds it.
	onlyEnv bool
	// cleared is set where an empty value has a meaning of its own.
	cleared bool
	bind    func(*settings) value
}

// flag returns the long flag without dashes, or "" where there is none.
func (st *setting) flag() string {
	if st.onlyEnv {
		return ""
	}
	return strings.NewReplacer("_", "-", ".", "-").Replace(st.name)
}

// env returns the environment variables of the setting, first one first.
func (st *setting) env() []string {
	if st.onlyEnv {
		return st.moreEnv
	}
	own := "WEIR_" + strings.ToUpper(strings.ReplaceAll(st.name, ".", "_"))
	return append([]string{own}, st.moreEnv...)
}

// The groups of settings, in the order of the help and the reference.
const (
	groupListen    = "Listeners"
	groupLangSmith = "LangSmith"
	groupBuffer    = "Buffer on disk"
	groupForward   = "Forwarding"
	groupQuota     = "Quota"
	groupLimits    = "Limits on callers"
	groupSecurity  = "Security"
	groupProcess   = "Logging and shutdown"
)

// maxDiskBytes bounds sizes on disk: beyond it a value is a typing error.
const maxDiskBytes = 1 << 50

// table lists every setting. Rows of a group stand together.
var table = buildTable()

func buildTable() []setting {
	var all []setting
	for _, rows := range [][]setting{
		listenTable(), langsmithTable(), bufferTable(), forwardTable(), startTimeTable(),
		quotaTable(), limitsTable(), securityTable(), accessTable(), processTable(),
	} {
		all = append(all, rows...)
	}
	return all
}

func listenTable() []setting {
	addr := func(name, fallback, help string, field func(*settings) *listenAddr) setting {
		return setting{
			name: name, group: groupListen, fallback: fallback, help: help, placeholder: "ADDR", cleared: true,
			bind: func(s *settings) value { return addrValue{to: field(s)} },
		}
	}
	return []setting{
		addr("grpc_addr", "127.0.0.1:4317", "Where to take OTLP and runs over gRPC: host:port, unix:PATH or off.",
			func(s *settings) *listenAddr { return &s.GRPCAddr }),
		addr("http_addr", "127.0.0.1:4318", "Where to take OTLP and LangSmith's API over HTTP: host:port, unix:PATH or off.",
			func(s *settings) *listenAddr { return &s.HTTPAddr }),
		{
			name: "admin_addr", group: groupListen, fallback: "127.0.0.1:4319", placeholder: "ADDR", cleared: true,
			help: "Where to serve administration, health and metrics; commands such as `weir status` call it, also as https://HOST:PORT.",
			bind: func(s *settings) value { return addrValue{to: &s.AdminAddr, orURL: true} },
		},
		addr("metrics_addr", "off", "Where to serve health and metrics alone, for kubelets and scrapers.",
			func(s *settings) *listenAddr { return &s.MetricsAddr }),
	}
}

func langsmithTable() []setting {
	return []setting{
		{
			name: "upstream", group: groupLangSmith, placeholder: "URL", fallback: upstream.DefaultBaseURL,
			help:    "Base URL of the LangSmith API to forward to.",
			moreEnv: []string{"LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT"},
			bind:    func(s *settings) value { return urlValue{to: &s.Upstream} },
		},
		{
			name: "api_key", group: groupLangSmith, onlyEnv: true,
			help:    "LangSmith API key for data that came without a key of its own.",
			moreEnv: []string{"LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"},
			bind:    func(s *settings) value { return secretValue{to: &s.APIKey, what: "an API key such as lsv2_pt_..."} },
		},
		secretFile("api_key", groupLangSmith, "File that holds the LangSmith API key."),
		{
			name: "project", group: groupLangSmith, placeholder: "NAME",
			help:    "Project for data that names none.",
			moreEnv: []string{"LANGSMITH_PROJECT", "LANGCHAIN_PROJECT"},
			bind:    func(s *settings) value { return textValue{to: &s.Project, what: "a project name as text"} },
		},
		{
			name: "workspace", group: groupLangSmith, placeholder: "ID",
			help:    "Workspace (tenant) id to send with weir's own key; organization-scoped keys need one.",
			moreEnv: []string{"LANGSMITH_WORKSPACE_ID", "LANGCHAIN_WORKSPACE_ID"},
			bind:    func(s *settings) value { return textValue{to: &s.Workspace, what: "a workspace id as text"} },
		},
		{
			name: "lend_key", group: groupLangSmith, fallback: "false",
			help: "Use weir's own key also for reads and other calls that are passed on to LangSmith without one.",
			bind: func(s *settings) value { return boolValue{to: &s.LendKey} },
		},
	}
}

func bufferTable() []setting {
	return []setting{
		{
			name: "data_dir", group: groupBuffer, placeholder: "DIR", defaultFrom: defaultDataDir,
			fallback: "$STATE_DIRECTORY, else $XDG_STATE_HOME/weir, else ~/.local/state/weir, else /var/lib/weir",
			help:     "Directory for data that is not delivered yet. One weir per directory.",
			bind:     func(s *settings) value { return pathValue{textValue{to: &s.DataDir, what: "a directory"}} },
		},
		{
			name: "buffer_max", group: groupBuffer, placeholder: "SIZE", fallback: "10GiB",
			help: "Most disk space the buffer may take; beyond it exports are refused for now.",
			bind: func(s *settings) value {
				return bytesValue{to: &s.BufferMaxBytes, low: 16 << 20, high: maxDiskBytes}
			},
		},
		{
			name: "buffer_min_free", group: groupBuffer, placeholder: "SIZE", fallback: "0",
			help: "Free space to leave on the file system; below it exports are refused for now. 0 chooses 64MiB, or 5 % of a file system smaller than 1.25GiB.",
			bind: func(s *settings) value {
				return bytesValue{to: &s.BufferMinFreeBytes, low: 0, high: maxDiskBytes}
			},
		},
		{
			name: "sync", group: groupBuffer, fallback: "true",
			help: "Sync to disk before acknowledging. Without, a crash of the machine loses acknowledged data.",
			bind: func(s *settings) value { return boolValue{to: &s.Sync} },
		},
	}
}

func forwardTable() []setting {
	return []setting{
		{
			name: "otlp_encoding", group: groupForward, placeholder: "ENCODING", fallback: "auto",
			help: "Compression of OTLP requests to LangSmith: auto, zstd, gzip or identity. Auto is gzip, or zstd once `weir send-test` has read a trace back that was sent so.",
			bind: func(s *settings) value {
				return choiceValue{to: &s.OTLPEncoding, allowed: []string{"auto", "zstd", "gzip", "identity"}}
			},
		},
		{
			name: "request_timeout", group: groupForward, placeholder: "DURATION", fallback: "60s",
			help: "Longest wait for one request to LangSmith.",
			bind: func(s *settings) value {
				return durationValue{to: &s.RequestTimeout, low: time.Second, high: time.Hour}
			},
		},
		{
			name: "ca_file", group: groupForward, placeholder: "FILE",
			help: "PEM file of certificate authorities to trust besides the system's.",
			bind: func(s *settings) value { return pathValue{textValue{to: &s.CAFile, what: "a PEM file"}} },
		},
		{
			name: "probe_regions", group: groupForward, placeholder: "URL",
			help: "Regions of LangSmith to which a key that is refused may be sent, to find out whether it is theirs: base URLs, comma separated, or langsmith for all of its own. Default: none.",
			bind: func(s *settings) value {
				return listValue{to: &s.ProbeRegions, what: "a base URL such as https://eu.api.smith.langchain.com, or langsmith", item: regionItem}
			},
		},
		{
			name: "forward.concurrency", group: groupForward, placeholder: "N", fallback: "8",
			help: "Requests to LangSmith at a time.",
			bind: func(s *settings) value { return intValue{to: &s.Forward.Concurrency, low: 1, high: 256} },
		},
		{
			name: "forward.max_request_bytes", group: groupForward, placeholder: "SIZE", fallback: "4MiB",
			help: "Size of a request before compression at which it is sent.",
			bind: func(s *settings) value {
				return bytesValue{to: &s.Forward.MaxRequestBytes, low: 64 << 10, high: 20 << 20}
			},
		},
		{
			name: "forward.linger", group: groupForward, placeholder: "DURATION", fallback: "200ms",
			help: "How long data waits for company before it is sent in a smaller request.",
			bind: func(s *settings) value { return durationValue{to: &s.Forward.Linger, high: time.Minute} },
		},
		{
			name: "coalesce", group: groupForward, placeholder: "DURATION", fallback: "0s",
			help: "How long runs wait, on disk, for their updates, so that both leave as one operation.",
			bind: func(s *settings) value { return durationValue{to: &s.Forward.Coalesce, high: time.Hour} },
		},
	}
}

func limitsTable() []setting {
	row := func(name, placeholder, fallback, help string, bind func(*settings) value) setting {
		return setting{
			name: "limits." + name, group: groupLimits, placeholder: placeholder,
			fallback: fallback, help: help, bind: bind,
		}
	}
	return []setting{
		row("max_message_bytes", "SIZE", "20MiB", "Largest export, decompressed.", func(s *settings) value {
			return bytesValue{to: &s.Limits.MaxMessageBytes, low: 64 << 10, high: 256 << 20}
		}),
		row("max_spans", "N", "50000", "Most spans in one export.", func(s *settings) value {
			return intValue{to: &s.Limits.MaxSpans, low: 1, high: 10_000_000}
		}),
		row("max_connections", "N", "4096", "Most connections per listener.", func(s *settings) value {
			return intValue{to: &s.Limits.MaxConnections, low: 1, high: 1 << 20}
		}),
		row("max_streams", "N", "1024", "Most concurrent requests per gRPC connection.", func(s *settings) value {
			return intValue{to: &s.Limits.MaxStreams, low: 1, high: 1 << 20}
		}),
		row("max_header_bytes", "SIZE", "32KiB", "Largest header of a request.", func(s *settings) value {
			return bytesValue{to: &s.Limits.MaxHeaderBytes, low: 4 << 10, high: 1 << 20}
		}),
		row("receive_timeout", "DURATION", "30s", "How long a caller may take to send one export.", func(s *settings) value {
			return durationValue{to: &s.Limits.ReceiveTimeout, low: time.Second, high: time.Hour}
		}),
		row("max_inflight_bytes", "SIZE", "64MiB", "Most bytes of exports being received at a time, over all callers.", func(s *settings) value {
			return bytesValue{to: &s.Limits.MaxInflightBytes, low: 1 << 20, high: 64 << 30}
		}),
		row("max_attachment_bytes", "SIZE", "1GiB", "Most bytes of large attachments in one request.", func(s *settings) value {
			return bytesValue{to: &s.Limits.MaxAttachmentBytes, low: 1 << 20, high: 64 << 30}
		}),
	}
}

func securityTable() []setting {
	return []setting{
		{
			name: "admin_token", group: groupSecurity, onlyEnv: true,
			help:    "Token for the admin listener; needed where other machines can reach it.",
			moreEnv: []string{"WEIR_ADMIN_TOKEN"},
			bind:    func(s *settings) value { return secretValue{to: &s.AdminToken, what: "a token"} },
		},
		secretFile("admin_token", groupSecurity, "File that holds the admin token."),
		{
			name: "insecure_ingest", group: groupSecurity, fallback: "false",
			help: "Let other machines send data under weir's own API key without proving who they are.",
			bind: func(s *settings) value { return boolValue{to: &s.InsecureIngest} },
		},
		{
			name: "cors", group: groupSecurity, placeholder: "ORIGIN", cleared: true,
			help: "Origins whose web pages may send data, comma separated.",
			bind: func(s *settings) value {
				return listValue{to: &s.CORS, what: "an origin such as https://app.example.com, or *", item: originItem}
			},
		},
		{
			name: "allowed_hosts", group: groupSecurity, placeholder: "HOST", cleared: true,
			help: "Names by which HTTP callers may address weir, besides its own addresses, comma separated.",
			bind: func(s *settings) value {
				return listValue{to: &s.AllowedHosts, what: "a host name without a port, such as weir.internal", item: hostItem}
			},
		},
	}
}

func processTable() []setting {
	return []setting{
		{
			name: "log_level", group: groupProcess, placeholder: "LEVEL", fallback: "info",
			help: "Least severe level to log: debug, info, warn or error.",
			bind: func(s *settings) value { return levelValue{to: &s.LogLevel} },
		},
		{
			name: "log_format", group: groupProcess, placeholder: "FORMAT", fallback: "auto",
			help: "Form of the log on standard error: text, json, or auto: text on a terminal, else json.",
			bind: func(s *settings) value {
				return choiceValue{to: &s.LogFormat, allowed: []string{"auto", "text", "json"}}
			},
		},
		{
			name: "shutdown_timeout", group: groupProcess, placeholder: "DURATION", fallback: "25s",
			help: "Longest time to settle what is in flight on SIGTERM; the rest stays on disk.",
			bind: func(s *settings) value {
				return durationValue{to: &s.ShutdownTimeout, low: 0, high: 24 * time.Hour}
			},
		},
	}
}

// secretFile is the row of the file that holds the named secret.
func secretFile(name, group, help string) setting {
	return setting{
		name: name + fileSuffix, group: group, placeholder: "FILE", help: help,
		bind: func(s *settings) value {
			return pathValue{textValue{to: s.secretFile(name), what: "a file"}}
		},
	}
}

const fileSuffix = "_file"

// secretFile returns where the path of the named secret's file is kept.
func (s *settings) secretFile(name string) *string {
	path, ok := s.secretFiles[name]
	if !ok {
		path = new(string)
		s.secretFiles[name] = path
	}
	return path
}

// defaultDataDir follows systemd (STATE_DIRECTORY), then the XDG base
// directory specification (which has relative values ignored), and ends at
// the system's place for services that have no home.
func defaultDataDir(getenv func(string) string) string {
	if dir, _, _ := strings.Cut(getenv("STATE_DIRECTORY"), ":"); filepath.IsAbs(dir) {
		return dir
	}
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "weir")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) && home != "/" {
		return filepath.Join(home, ".local", "state", "weir")
	}
	return "/var/lib/weir"
}

// lookup finds the row with the given name, or returns nil.
func lookup(name string) *setting {
	for i := range table {
		if table[i].name == name {
			return &table[i]
		}
	}
	return nil
}
