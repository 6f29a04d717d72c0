package smith

import (
	"encoding/json"
	"net/http"
)

// reply is an answer before it is written, so that a fault can replace it,
// pace it or cut it off.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// family is which of LangSmith's two services answers. They word the same
// error differently: the newer Go one says {"error": ...} and ends the line,
// the Python one says {"detail": ...}.
type family uint8

const (
	familyGo family = iota
	familyPython
)

const (
	contentJSON     = "application/json"
	contentProtobuf = "application/x-protobuf"
	contentHTML     = "text/html"
)

// Bodies that people have published, letter for letter.
const (
	bodyUnauthorized    = `{"error":"Unauthorized"}` + "\n"
	bodyLegacyKey       = `{"error":"Unauthorized: Using outdated v1 api key. Please use v2 api key."}` + "\n"
	bodyBadWorkspaceID  = `{"detail":"UUID header value was not a valid UUID"}`
	bodyForbidden       = `{"error":"Forbidden"}` + "\n"
	bodyForbiddenOld    = `{"detail":"Forbidden"}`
	bodyUnauthorizedOld = `{"detail":"Invalid token"}`
	bodyLegacyKeyOld    = `{"detail":"Using legacy API key. Please generate a new API key."}`
	bodyDamaged         = `{"error":"Unprocessable entity: error reading multipart data: multipart: NextPart: EOF"}` + "\n"
	bodyUndecodable     = `{"error":"Unprocessable entity: error reading multipart data: failed to decompress: Unknown frame descriptor"}` + "\n"
	bodyIntTooBig       = `{"detail":"int too big to convert"}`
	bodyNoPlan          = `{"error":"Forbidden - no plan found"}` + "\n"
	bodyMonthlyQuota    = `{"error":"Too many requests: tenant exceeded usage limits: Monthly unique traces usage limit exceeded"}` + "\n"
	bodyMonthlyOld      = `{"detail":"Monthly unique traces usage limit exceeded"}`
	bodyUserLimit       = `{"error":"usage limit monthly_longlived_traces of 5000 exceeded"}` + "\n"
	bodyThrottled       = `{"detail":"Too many requests"}`
	bodyNotFound        = `{"detail":"Not Found"}`
	bodyRunNotFound     = `{"detail":"Run not found"}`
	bodyConflictGo      = `{"error":"Conflict: payload already received: payloads already received"}` + "\n"
	bodyConflictPython  = `{"detail":"Payloads already received"}`

	// The sentence of both is published; which service pairs it with the code
	// word as "error" and "message" is read from the SDKs' handling of it.
	bodyOrgScopedGo = `{"error":"org_scoped_key_requires_workspace","message":"This API key is org-scoped and ` +
		`requires workspace specification. Please provide 'X-Tenant-ID' header."}` + "\n"
	bodyOrgScopedPython = `{"detail":"This API key is org-scoped and requires workspace specification. ` +
		`Please provide 'X-Tenant-ID' header."}`
)

// oldBodies are the refusals of access as the Python service worded them.
var oldBodies = map[string]string{
	bodyUnauthorized: bodyUnauthorizedOld, // langsmith-sdk 1412
	bodyForbidden:    bodyForbiddenOld,    // langsmith-sdk 637
	bodyLegacyKey:    bodyLegacyKeyOld,    // client-web 8018
}

// literal answers with a body that is already encoded as JSON.
func literal(status int, body string) reply {
	return reply{status: status, header: http.Header{"Content-Type": {contentJSON}}, body: []byte(body)}
}

// page answers like nginx, which closes the connection after an error.
func page(status int, html string) reply {
	return reply{
		status: status,
		header: http.Header{"Content-Type": {contentHTML}, "Server": {"nginx"}, "Connection": {"close"}},
		body:   []byte(html),
	}
}

// failure words an error the way the family's service does.
func (f family) failure(status int, text string) reply {
	if f == familyPython {
		return literal(status, string(appendJSON(nil, map[string]string{"detail": text})))
	}
	return literal(status, string(appendJSON(nil, map[string]string{"error": text}))+"\n")
}

// jsonReply answers 200 with v.
func jsonReply(v any) reply {
	body, err := json.Marshal(v)
	if err != nil {
		return familyGo.failure(http.StatusInternalServerError, err.Error())
	}
	return literal(http.StatusOK, string(body))
}
