package diagnose

import (
	"fmt"
	"net/http"
	"strings"
)

// credentialRules see that a key cannot be right by what it looks like, or by what the
// answer says of it.
var credentialRules = []rule{
	{KeyMissing, keyMissing, func(f *Facts) string {
		if f.OwnKey {
			return "Set LANGSMITH_API_KEY for weir and restart it, or put the key into the file of api_key_file and reload weir (kill -HUP). What waits is then sent by itself."
		}
		return "Set LANGSMITH_API_KEY in the process that runs the application; older SDKs read LANGCHAIN_API_KEY only."
	}},
	{KeyLegacy, keyLegacy, func(f *Facts) string {
		if f.Key.Kind == KeyPersonal || f.Key.Kind == KeyService {
			return "LangSmith sees an old key although " + f.keyName() + " is a new one: look whether another variable (LANGCHAIN_API_KEY) is set to the old one, or something on the way replaces the header."
		}
		return "Create a new key (it begins with lsv2_) in LangSmith under Settings > API Keys and put it into " + f.keyPlace() + "."
	}},
	{KeyInWrongHeader, func(f *Facts) (Confidence, []string) {
		if !f.deniesKey() || !f.Bearer || f.Key.Kind != KeyPersonal && f.Key.Kind != KeyService {
			return "", nil
		}
		return Likely, []string{fmt.Sprintf("The application sent %s as Authorization: Bearer.", f.keyName()), answered(f)}
	}, func(*Facts) string {
		return "Have the application send the key as the header x-api-key."
	}},
	{KeyInWrongHeader, flawed(KeyInWrongHeader), func(*Facts) string {
		return "Send the key as the header x-api-key, not as Authorization: Bearer, and without the word Bearer in front of it."
	}},
	{KeyPlaceholder, flawed(KeyPlaceholder), func(f *Facts) string {
		return fmt.Sprintf("Put a real key into %s: it begins with lsv2_pt_ or lsv2_sk_ (LangSmith, Settings > API Keys). %s", f.keyPlace(), thenSent(f))
	}},
	{KeyMalformed, flawed(KeyMalformed), func(f *Facts) string {
		return fmt.Sprintf("Copy the whole key anew from LangSmith (Settings > API Keys) into %s, without quotes, blanks or line breaks.", f.keyPlace())
	}},
	{KeyMalformed, keyUnsendable, func(f *Facts) string {
		return fmt.Sprintf("Look at %s, LANGSMITH_WORKSPACE_ID and LANGSMITH_PROJECT: one of them holds a line break or another character that no header may have.", f.keyPlace())
	}},
	{CredentialUnusable, func(f *Facts) (Confidence, []string) {
		if f.Reason != "credential_unreadable" {
			return "", nil
		}
		return Certain, []string{"The key this data came with is sealed, and cannot be opened with the sealing key that is there: " + f.Error + "."}
	}, func(*Facts) string {
		return "Restore the sealing key file of the data directory, or send the data with weir's own key: weir quarantine release ID --as-own-key."
	}},
}

func keyMissing(f *Facts) (Confidence, []string) {
	if f.Key.Kind != KeyNone || !f.deniesKey() {
		return "", nil
	}
	return Certain, []string{"The request went without a key.", answered(f)}
}

func keyLegacy(f *Facts) (Confidence, []string) {
	switch {
	case f.deniesKey() && f.says("outdated v1 api key", "legacy api key"):
		return Certain, []string{answered(f)}
	case f.deniesKey() && f.Key.Kind == KeyV1:
		return Certain, []string{fmt.Sprintf("The %s begins with ls__, as LangSmith's keys did until October 2024.", f.keyName()), answered(f)}
	default:
		return "", nil
	}
}

// flawed is the rule for a key of which ShapeOf says that something is wrong. A
// self-hosted LangSmith may have keys of its own form: there it is only likely.
func flawed(code Code) func(*Facts) (Confidence, []string) {
	return func(f *Facts) (Confidence, []string) {
		if !f.deniesKey() || f.Key.Kind == KeyNone || f.Key.Kind == KeyV1 {
			return "", nil
		}
		var evidence []string
		sure := false
		for _, flaw := range f.Key.Flaws {
			if flaw.Code == code {
				evidence, sure = append(evidence, fmt.Sprintf("The key in use (%s) %s.", f.Key, flaw.Says)), sure || flaw.Sure
			}
		}
		if evidence == nil || f.acceptedLately() {
			return "", nil // such as it is, it was taken until a moment ago
		}
		if !f.History.Accepted.IsZero() || f.Probes.Sessions.ok() {
			return Possible, append(evidence, answered(f)) // it has worked as it is
		}
		if !sure {
			return Likely, append(evidence, answered(f))
		}
		return Certain, append(evidence, answered(f))
	}
}

func keyUnsendable(f *Facts) (Confidence, []string) {
	if f.Reason != "bad_header" {
		return "", nil
	}
	return Certain, []string{"The request could not even be sent: " + f.Error + "."}
}

// workspaceRules are about the header that names the workspace.
var workspaceRules = []rule{
	{WorkspaceRequired, func(f *Facts) (Confidence, []string) {
		if !asksForWorkspace(f.Body) {
			return "", nil
		}
		return Certain, []string{answered(f), "No workspace was sent."}
	}, func(f *Facts) string {
		if f.OwnKey {
			return "The key belongs to a whole organization: set LANGSMITH_WORKSPACE_ID=<uuid> for weir (LangSmith, Settings > Workspaces)" + forWeir(f) + "."
		}
		return "The key belongs to a whole organization: set LANGSMITH_WORKSPACE_ID=<uuid> in the application; its SDK must send it as X-Tenant-Id (old ones do not)."
	}},
	{WorkspaceNotUUID, workspaceNotUUID, func(*Facts) string {
		return "LANGSMITH_WORKSPACE_ID must be a UUID, as LangSmith shows it under Settings > Workspaces. With a key of one workspace it is not needed: remove it."
	}},
	{WorkspaceMismatch, workspaceMismatch, func(f *Facts) string {
		if f.Probes.WithoutWorkspace.denied() {
			return fmt.Sprintf("Set LANGSMITH_WORKSPACE_ID to a workspace of the key's organization, as LangSmith shows it under Settings > Workspaces, in place of %s.", clip(f.Workspace, 64))
		}
		if !f.Probes.WithoutWorkspace.ok() {
			return fmt.Sprintf("If the key is good (weir doctor tries it without the workspace), it is not for workspace %s: remove LANGSMITH_WORKSPACE_ID, or set the id that LangSmith shows under Settings > Workspaces.", clip(f.Workspace, 64))
		}
		return fmt.Sprintf("The key works, but not in workspace %s: remove LANGSMITH_WORKSPACE_ID (a key of one workspace does not need it), or set the id that LangSmith shows under Settings > Workspaces.", clip(f.Workspace, 64))
	}},
	{NoWritePermission, noWritePermission, func(f *Facts) string {
		return fmt.Sprintf("The %s may read here, but not write runs: give it a role that may (LangSmith, Settings > API Keys), or use another key.", f.keyName())
	}},
}

// asksForWorkspace recognises both services' answers to an organization's key
// without a workspace.
func asksForWorkspace(body string) bool {
	return strings.Contains(body, "org_scoped_key_requires_workspace") || strings.Contains(body, "org-scoped and requires workspace")
}

func workspaceNotUUID(f *Facts) (Confidence, []string) {
	switch {
	case f.says("header value was not a valid uuid"):
		return Certain, []string{answered(f), fmt.Sprintf("The workspace sent was %q.", clip(f.Workspace, 64))}
	case f.deniesKey() && f.Workspace != "" && !isUUID(f.Workspace):
		return Likely, []string{fmt.Sprintf("The workspace sent was %q, which is no UUID.", clip(f.Workspace, 64)), answered(f)}
	default:
		return "", nil
	}
}

func workspaceMismatch(f *Facts) (Confidence, []string) {
	p := &f.Probes
	refused := f.deniesKey() || f.Status == http.StatusNotFound && !f.isHTML() && !f.says("not found\"}")
	switch {
	case f.Workspace == "" || !refused || f.isHTML():
		return "", nil
	case p.WithoutWorkspace.ok() && !p.Sessions.ok():
		return Certain, []string{answered(f), "The same key is taken without the workspace header (X-Tenant-Id)."}
	case p.WithoutWorkspace.denied() && asksForWorkspace(p.WithoutWorkspace.Body) && !p.Sessions.ok():
		return Certain, []string{answered(f), "LangSmith knows the key, which is an organization's, and does not take it for this workspace."}
	case p.WithoutWorkspace.denied() || p.Sessions.ok():
		return "", nil
	default:
		return Possible, []string{answered(f), fmt.Sprintf("The workspace %s was sent.", clip(f.Workspace, 64))}
	}
}

func noWritePermission(f *Facts) (Confidence, []string) {
	if f.Status != http.StatusForbidden || f.isHTML() || !f.Probes.Sessions.ok() {
		return "", nil
	}
	evidence := []string{answered(f), "The same key may read projects, with the same workspace."}
	if f.acceptedLately() && f.young() {
		return Possible, evidence
	}
	return Likely, evidence
}

// answered quotes the answer.
func answered(f *Facts) string {
	body := oneLine(f.Body)
	switch {
	case f.Status == 0:
		return "No answer came: " + oneLine(f.Error) + "."
	case f.isHTML():
		if t := title(f.Body); t != "" {
			return fmt.Sprintf("The answer was HTTP %d with a web page, %q.", f.Status, t)
		}
		return fmt.Sprintf("The answer was HTTP %d with a web page.", f.Status)
	case body == "":
		return fmt.Sprintf("The answer was HTTP %d without a word.", f.Status)
	default:
		return fmt.Sprintf("The answer was HTTP %d: %s", f.Status, clip(body, 200))
	}
}
