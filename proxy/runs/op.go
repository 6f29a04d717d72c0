package runs

// Kind is what an operation does. The numbers are on disk: never reuse one.
type Kind uint8

// The kinds of operation.
const (
	// Create is a run's post.
	Create Kind = 1
	// Update is a run's patch. LangSmith takes one post and one patch of a
	// run (LangSmith SDK, issues 1529 and 2111).
	Update Kind = 2
	// Feedback is a feedback that names its trace, so that it can travel as a
	// part of a multipart request.
	Feedback Kind = 3
	// Attachment is one file of a run.
	Attachment Kind = 4
	// Call is a request that cannot become a part (a PATCH or a feedback that
	// does not name its trace): it is sent as the same call.
	Call Kind = 5
)

// String returns the kind's name: the first word of a multipart part where
// there is one.
func (k Kind) String() string {
	switch k {
	case Create:
		return "post"
	case Update:
		return "patch"
	case Feedback:
		return "feedback"
	case Attachment:
		return "attachment"
	case Call:
		return "call"
	default:
		return "unknown"
	}
}

// Field is a field of a run that travels beside its object, in a part of its
// own (LangSmith API reference: ingest-runs-multipart).
type Field uint8

// The fields that travel beside a run's object, in the order in which the SDKs
// send them.
const (
	Inputs Field = iota
	Outputs
	Events
	Extra
	Error
	Serialized

	NumFields = 6
)

// FieldNames are the fields' names, by Field.
var FieldNames = [NumFields]string{"inputs", "outputs", "events", "extra", "error", "serialized"}

// FieldNamed finds a field by its name.
func FieldNamed(name string) (Field, bool) {
	for f, n := range FieldNames {
		if n == name {
			return Field(f), true
		}
	}
	return 0, false
}

// Op is one operation. Of the fields, a kind has those that its comment names.
// An Op that Scan yields refers to the scanned bytes.
type Op struct {
	Kind Kind

	// ID is the run's id (Create, Update, Attachment) or the feedback's
	// (Feedback). Of a Call it is that of the run or feedback, zero if unknown.
	ID ID
	// Trace is the trace's id, zero if the caller did not say (Call, and an
	// Attachment whose run did not come with it).
	Trace ID

	// Body is a JSON object: the run without the fields that travel beside it
	// (Create, Update), the feedback (Feedback), or a call's body as it came,
	// which need not be JSON (Call).
	Body []byte
	// Fields are the JSON values of the run's fields, nil where the caller
	// sent none (Create, Update).
	Fields [NumFields][]byte
	// NoProject is set where a run names neither session_name nor session_id
	// nor the address of an agent (Create, or the Call of one): weir's own
	// project then applies.
	NoProject bool

	// Name is an attachment's name, without a dot.
	Name string
	// ContentType is the media type of an attachment or of a call's body.
	ContentType string
	// Data is an attachment's content, unless it is in a blob.
	Data []byte
	// Blob names an attachment's content kept aside, BlobBytes long; empty:
	// the content is Data.
	Blob      string
	BlobBytes int64

	// Method and Path are a call's, Path below the base URL, with its query.
	Method, Path string
}

// Size is the size of the operation's content in bytes, a blob's included: what
// it adds to a request but for the frame around it.
func (op *Op) Size() int64 {
	n := int64(len(op.Body)+len(op.Data)) + op.BlobBytes
	for _, f := range op.Fields {
		n += int64(len(f))
	}
	return n
}

// Blob names content that is kept aside of an export, because it is too large
// to be held in memory.
type Blob struct {
	ID    string
	Bytes int64
}
