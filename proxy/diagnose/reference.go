package diagnose

import (
	"fmt"
	"strings"
)

// entry is what the reference says of a code.
type entry struct {
	code      Code
	cause     string
	signs     string // what tells it from others
	remedy    string
	meanwhile meanwhile
}

// meanwhile is what weir does until the cause is gone.
type meanwhile string

const (
	parks      meanwhile = "Keeps the data in a case, tries again after seconds, then minutes, and delivers by itself."
	waits      meanwhile = "Keeps the data on disk and tries again until it is taken; no case."
	isolates   meanwhile = "Delivers the rest of the request; only the item at fault goes to a case, until a person releases or discards it."
	nextWindow meanwhile = "Keeps the data on disk until the limit's window turns; no case."
	splits     meanwhile = "Sends smaller requests, down to one item; only an item that is refused alone goes to a case."
)

// reference is the catalogue. docs/diagnosis.md is made from it.
var reference = []entry{
	{KeyMissing, "No key reaches LangSmith", "the request had none", "set LANGSMITH_API_KEY for weir, or in the application", parks},
	{KeyPlaceholder, "The key is a placeholder or code", "its form: `<your-key>`, `os.getenv(…)`, `${…}`", "put a real key there", parks},
	{KeyMalformed, "The key was cut, quoted or mistyped", "its form: length, prefix, quotes, blanks", "copy the whole key anew", parks},
	{KeyLegacy, "A key of the old form (`ls__`)", "its form, or LangSmith's words", "create a new key", parks},
	{KeyInWrongHeader, "The key came as `Authorization: Bearer`, or with `Bearer` in it", "its form", "send it as `x-api-key`", parks},
	{KeyRevoked, "The key was revoked or has expired, or never was one", "reads are refused, too; it was taken before; no region knows it", "create a new key", parks},
	{StaleKey, "The application still sends an old key", "weir's own key is taken at the same place", "restart the application, or `release --as-own-key`", parks},
	{RegionMismatch, "The key belongs to another region", "403 for a well-formed key; with `probe_regions` the region that takes it is named", "set LANGSMITH_ENDPOINT to that region's API", parks},
	{WorkspaceRequired, "The key belongs to an organization and needs a workspace", "LangSmith says so", "set LANGSMITH_WORKSPACE_ID", parks},
	{WorkspaceNotUUID, "The workspace is not a UUID", "LangSmith says so, or its form", "set the UUID, or remove it", parks},
	{WorkspaceMismatch, "The key is not for this workspace", "the key is taken without the workspace header", "remove LANGSMITH_WORKSPACE_ID, or set the right one", parks},
	{NoWritePermission, "The key may read, but not write", "reads succeed, runs are refused", "give it a role that may write", parks},
	{PlanMissing, "The organization has no plan", "402, or LangSmith says so", "finish the set-up under Settings > Billing", parks},
	{UpstreamIncident, "LangSmith has a fault", "5xx; or 403 for keys that were taken just before, for several at once or beside 5xx", "none: wait", waits},
	{UIHost, "The endpoint is LangSmith's web page", "its host name; 405 and a web page", "set the API's address", parks},
	{EndpointMalformed, "The endpoint is written wrong", "refused at start; `http://` to a port that speaks TLS", "write it right", parks},
	{EndpointPath, "The endpoint's path is wrong", "404 for every request; a doubled path", "`https://api.smith.langchain.com`, or `https://HOST/api/v1`", parks},
	{Redirect, "The endpoint sends elsewhere", "3xx; weir follows none, because the key would go along", "set the address it points to", parks},
	{TLSInterception, "Something on the way re-signs TLS, or the CA is private", "the certificate's issuer is unknown here", "give weir the CA's file (`ca_file`)", waits},
	{UpstreamCert, "The upstream's certificate has expired or is another host's", "the TLS error", "wait, or correct the address", waits},
	{Network, "The network does not reach LangSmith", "refused, reset, timeout, DNS, proxy", "none: wait; `weir doctor` looks at the way", waits},
	{IntermediaryBlock, "Something on the way answers in LangSmith's place", "a web page instead of JSON; 407, 511", "have it let weir through", parks},
	{QuotaMonth, "The month's traces are used up", "429 that names the month", "add a card, or wait for the 1st", nextWindow},
	{QuotaUserLimit, "A monthly limit that the organization set", "429 that names it", "ask the organization's admin", nextWindow},
	{RateHourEvents, "The hour's (or minute's) events are used up", "429 that names them", "none: wait", nextWindow},
	{RateHourBytes, "The hour's bytes are used up", "429 that names them", "none: wait", nextWindow},
	{RateGateway, "Too many requests for a gateway", "429 that names no limit, empty or a web page", "look at your gateway's rules", nextWindow},
	{PayloadTooLarge, "The request is too large", "413; or cut off while more than 20 MB were sent", "send large files as attachments", splits},
	{BodyDamaged, "The body is damaged", "LangSmith cannot read form, compression or JSON", "upgrade the SDK", isolates},
	{DottedOrder, "`dotted_order` is wrong", "LangSmith says so", "upgrade the SDK; versions are mixed", isolates},
	{SessionIDNotUUID, "`session_id` is not a UUID", "LangSmith says so", "send `session_name`", isolates},
	{IntegerOverflow, "A number beyond 64 bits", "LangSmith says so", "send it as text", isolates},
	{FieldTooLong, "A field is too long", "LangSmith says so, with the field", "shorten it", isolates},
	{StartTimeWindow, "A run began too long ago, or is from the future", "more than 24 h by weir's reckoning, or LangSmith says so", "`start_time_window`: `enforced` moves such traces in time, `off` sends them as they are", isolates},
	{TraceTooManyRuns, "More than 25,000 runs in one trace", "LangSmith says so", "begin a new trace for each turn", isolates},
	{ClockSkew, "Clocks differ between machines", "a child earlier than its parent, and a `Date` far off", "set the clocks right", isolates},
	{Duplicate, "LangSmith has it already", "409 for an operation alone, of which no answer was lost", "discard it", isolates},
	{NotFoundYet, "What a feedback or an update is about is not there yet", "404 that names the thing", "none: wait", parks},
	{CredentialUnusable, "The key that data came with cannot be unsealed", "weir's own store", "restore the sealing key file", waits},
	{Unreadable, "Stored data cannot be read", "weir's own store", "check the disk", isolates},
	{Unknown, "No rule knows the answer", "", "`weir quarantine show`, `weir doctor`", parks},
}

// Meanwhile is what weir does until the cause is gone, in a sentence.
func Meanwhile(c Code) string {
	for i := range reference {
		if reference[i].code == c {
			return string(reference[i].meanwhile)
		}
	}
	return string(parks)
}

// Reference is the catalogue as Markdown.
func Reference() string {
	var b strings.Builder
	b.WriteString("| cause | what it is | how it is told | what to do | what weir does meanwhile |\n|---|---|---|---|---|\n")
	for i := range reference {
		e := &reference[i]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", e.code, e.cause, e.signs, e.remedy, e.meanwhile)
	}
	return b.String()
}
