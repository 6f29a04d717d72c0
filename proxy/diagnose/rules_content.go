package diagnose

import (
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// contentRules say what is wrong with the data itself.
var contentRules = []rule{
	{PayloadTooLarge, tooLarge, func(f *Facts) string {
		if f.isHTML() && !f.cloud() {
			return "The ingress before your LangSmith limits bodies (nginx: client_max_body_size): raise it, or set forward.max_request_bytes for weir. Then: weir quarantine release ID."
		}
		return "One item is larger than LangSmith takes (about 20 MB): send large files as attachments, or leave them out (hide_inputs, hide_outputs). To try again: weir quarantine release ID."
	}},
	{ClockSkew, clockSkew, func(f *Facts) string {
		if windowWords(f) {
			return "Set this machine's clock right (NTP): runs that begin now look to LangSmith as if they began long ago, or later."
		}
		return "Set the clocks of the machines right (NTP): a child of this trace began before its parent."
	}},
	{StartTimeWindow, func(f *Facts) (Confidence, []string) {
		if f.Reason == "start_time_window" && f.Error != "" {
			return Certain, []string{oneLine(f.Error)}
		}
		if !windowWords(f) {
			return "", nil
		}
		return Certain, []string{answered(f)}
	}, func(f *Facts) string {
		if f.Error == "" {
			return "LangSmith took no run that started so long ago, or is from the future. Set start_time_window to enforced: weir then finds such runs before it sends them, and moves their traces in time where it can. Then: weir quarantine release ID."
		}
		return "If your LangSmith takes such runs, set start_time_window to off (kill -HUP takes it), and: weir quarantine release ID. If weir was told to keep them, start_time_window_policy: restamp moves traces in time of which nothing was sent yet. Else: weir quarantine export ID --out FILE."
	}},
	{DottedOrder, func(f *Facts) (Confidence, []string) {
		if !contentStatus(f) || !f.says("dotted_order") {
			return "", nil
		}
		return Certain, []string{answered(f)}
	}, func(*Facts) string {
		return "The SDK made a dotted_order that LangSmith does not take, mostly because versions are mixed: upgrade langsmith and @langchain/core (or langchain-core). What is kept here cannot be mended: export it, then discard it."
	}},
	{SessionIDNotUUID, func(f *Facts) (Confidence, []string) {
		if !contentStatus(f) || !f.says("session_id") {
			return "", nil
		}
		return Certain, []string{answered(f)}
	}, func(*Facts) string {
		return "The application sends a project's name as session_id, which must be a UUID: have it send session_name."
	}},
	{IntegerOverflow, func(f *Facts) (Confidence, []string) {
		if !contentStatus(f) || !f.says("int too big", "integer out of range", "value out of range", "cannot unmarshal number") {
			return "", nil
		}
		return Certain, []string{answered(f)}
	}, func(*Facts) string {
		return "A number in it is larger than 64 bits: have the application send it as text."
	}},
	{FieldTooLong, func(f *Facts) (Confidence, []string) {
		if !contentStatus(f) || !f.says("maxlength", "is longer than", "too long") {
			return "", nil
		}
		evidence := []string{answered(f)}
		if field := longField.FindStringSubmatch(f.Body); field != nil {
			evidence = append(evidence, fmt.Sprintf("The field is %q.", field[1]))
		}
		return Certain, evidence
	}, func(*Facts) string { return "Have the application shorten that field." }},
	{TraceTooManyRuns, func(f *Facts) (Confidence, []string) {
		if !contentStatus(f) || !f.says("25000", "25,000", "too many runs", "maximum number of runs") {
			return "", nil
		}
		return Likely, []string{answered(f)}
	}, func(*Facts) string {
		return "LangSmith takes at most 25,000 runs of one trace: have the application begin a new trace for each turn of its loop."
	}},
	{Duplicate, func(f *Facts) (Confidence, []string) {
		if f.Reason != "duplicate" && f.Status != http.StatusConflict {
			return "", nil
		}
		return Certain, []string{answered(f)}
	}, func(*Facts) string {
		return "LangSmith takes one create and one update for a run, and has had this one. If the application meant to change a run again, that is not possible; otherwise discard the case."
	}},
	{NotFoundYet, func(f *Facts) (Confidence, []string) {
		if f.Reason != "not_found_yet" {
			return "", nil
		}
		return Likely, []string{answered(f)}
	}, func(*Facts) string {
		return "Nothing, if its run is still to come: weir tries again at growing intervals. If the run was never sent, discard the case."
	}},
	{BodyDamaged, func(f *Facts) (Confidence, []string) {
		switch {
		case f.Reason == "encoding":
			return Likely, []string{answered(f)}
		case !contentStatus(f):
			return "", nil
		case f.says("nextpart", "multipart", "decompress", "frame descriptor", "unexpected eof", "invalid utf", "null byte", "nul byte", "\\u0000", "invalid json", "invalid character"):
			return Likely, []string{answered(f)}
		default:
			return "", nil
		}
	}, func(*Facts) string {
		return "The application's SDK sent something damaged, or something on the way rewrote it: upgrade langsmith, or set LANGSMITH_DISABLE_RUN_COMPRESSION=true there. To try again: weir quarantine release ID."
	}},
	{Unreadable, func(f *Facts) (Confidence, []string) {
		if f.Reason != "unreadable" && f.Reason != "corrupt" {
			return "", nil
		}
		return Certain, []string{"The data cannot be read from disk: " + oneLine(f.Error) + "."}
	}, func(*Facts) string {
		return "Check the disk (its health, and dmesg). What can be read of it: weir quarantine export ID --out FILE."
	}},
}

// longField is the path of LangSmith's schema errors.
var longField = regexp.MustCompile(`\['(?:post|patch)','items','properties','([a-z_]+)','maxLength'\]`)

// contentStatus reports a status that is about what was sent.
func contentStatus(f *Facts) bool {
	return f.Status == http.StatusBadRequest || f.Status == http.StatusUnprocessableEntity
}

func tooLarge(f *Facts) (Confidence, []string) {
	switch {
	case f.Status == http.StatusRequestEntityTooLarge:
		return Certain, []string{answered(f), fmt.Sprintf("%d bytes were sent.", f.SentBytes)}
	case f.Reason == "reset_large_body":
		return Likely, []string{fmt.Sprintf("The connection was cut while %d bytes were sent; LangSmith is reported to cut at about 20 MB.", f.SentBytes), answered(f)}
	case f.Reason == "too_large":
		return Certain, []string{oneLine(f.Error)}
	default:
		return "", nil
	}
}

// maxSkew is how far two clocks may be apart before it explains anything; the
// Date header has whole seconds.
const maxSkew = 2 * time.Second

// maxWindowSkew is how far two clocks may be apart before that explains why
// LangSmith finds a run out of its window of 24 hours.
const maxWindowSkew = time.Hour

// windowWords reports an answer that blames a run's start time.
func windowWords(f *Facts) bool {
	return contentStatus(f) && f.says("start_time", "start time") && f.says("window", "hours", "too old", "in the past", "in the future")
}

func clockSkew(f *Facts) (Confidence, []string) {
	parent := contentStatus(f) && f.says("earlier than parent")
	if !parent && !windowWords(f) {
		return "", nil
	}
	most := maxSkew
	if !parent {
		most = maxWindowSkew
	}
	evidence := []string{answered(f)}
	if !f.ServerDate.IsZero() && !f.Time.IsZero() {
		if skew := f.Time.Sub(f.ServerDate).Abs(); skew > most {
			return Certain, append(evidence, fmt.Sprintf("This machine's clock and LangSmith's differ by %s.", round(skew)))
		}
	}
	if !parent {
		return "", nil
	}
	return Possible, evidence
}

func unknown(f *Facts) Cause {
	return Cause{
		Code: Unknown, Confidence: Possible, Evidence: []string{answered(f)},
		Remedy: "weir knows no cause for this answer. Look at it (weir quarantine show ID), run weir doctor, and ask LangSmith's support with the request id. The data is kept.",
	}
}
