package main

import (
	"log/slog"
	"time"

	"weir/proxy/admin"
)

// settings is the whole configuration of a weir, parsed and bounded. Fields
// stand in the order of the table that fills them.
type settings struct {
	// Where weir listens.
	GRPCAddr    listenAddr // OTLP and runs over gRPC
	HTTPAddr    listenAddr // OTLP and LangSmith's API over HTTP
	AdminAddr   listenAddr // administration, health, metrics
	MetricsAddr listenAddr // health and metrics alone

	// What LangSmith is told, where the caller says nothing itself.
	Upstream  string // base URL without a trailing slash
	APIKey    secret
	Project   string
	Workspace string
	LendKey   bool // weir's key also serves requests that are passed on

	// The buffer on disk.
	DataDir            string // absolute
	BufferMaxBytes     int64
	BufferMinFreeBytes int64
	Sync               bool // false: acknowledged before it is synced

	// How data is sent.
	OTLPEncoding   string // auto, zstd, gzip or identity
	RequestTimeout time.Duration
	CAFile         string // absolute, or empty
	ProbeRegions   []string
	Forward        forwardSettings
	StartTime      startTimeSettings

	Limits limitSettings

	// How the month's traces are kept to.
	Quota quotaSettings

	// Who may use the listeners.
	AdminToken     secret
	InsecureIngest bool
	CORS           []string // origins, scheme://host[:port], null or *
	AllowedHosts   []string // host names or addresses, without port

	LogLevel        slog.Level
	LogFormat       string // text or json
	ShutdownTimeout time.Duration

	// warnings are sentences about settings that were taken but deserve a
	// look; the command that runs weir logs them.
	warnings []string

	// file is the configuration file that was read, or empty.
	file string

	// origins says by setting name where each value came from.
	origins map[string]origin

	// written holds by setting name the text that counts, as it was written, and
	// whether or not it could be taken.
	written map[string]writtenValue

	// secretFiles holds the paths the *_file settings named, by the name of
	// the secret they hold.
	secretFiles map[string]*string

	input configInput

	// level is what the log of this process goes by; nil before leveler.
	level *admin.LogLevel

	// noReload says why the configuration cannot be read anew while weir runs;
	// empty: it can.
	noReload string

	// testHurry divides the pauses of send tests; 0 outside of tests.
	testHurry time.Duration
}

// writtenValue is a value as a person wrote it. It may be a key.
type writtenValue struct {
	text secret
	from origin
}

// forwardSettings bounds and paces the requests to the upstream.
type forwardSettings struct {
	Concurrency     int   // requests in flight at a time
	MaxRequestBytes int64 // of one request, before compression
	Linger          time.Duration
	Coalesce        time.Duration // how long runs wait for their updates
}

// limitSettings bounds what one caller, and all callers together, may ask.
type limitSettings struct {
	MaxMessageBytes  int64 // of one export, decompressed
	MaxSpans         int   // in one export
	MaxConnections   int   // per listener
	MaxStreams       int   // per gRPC connection
	MaxHeaderBytes   int64 // of one request
	ReceiveTimeout   time.Duration
	MaxInflightBytes int64 // of all exports being received

	MaxAttachmentBytes int64 // of one request's large attachments together
}

// reload reads the configuration again from the same flags, environment and
// file. It leaves s as it is.
func (s *settings) reload() (*settings, error) { return loadSettings(s.input) }

// leveler is the level that the log goes by: LogLevel, until somebody has it
// changed while weir runs.
func (s *settings) leveler() *admin.LogLevel {
	if s.level == nil {
		s.level = admin.NewLogLevel(s.LogLevel, nil)
	}
	return s.level
}

// from says where the named setting's value came from, for messages:
// "environment variable LANGSMITH_ENDPOINT". The name must be in the table.
func (s *settings) from(name string) string { return s.origins[name].String() }
