package smith

import (
	"net/http"
	"strconv"
)

// Pages of the nginx in front of the service.
var (
	page301 = nginxPage(http.StatusMovedPermanently, "Moved Permanently")
	page302 = nginxPage(http.StatusFound, "Found")
	page308 = nginxPage(http.StatusPermanentRedirect, "Permanent Redirect")
	page405 = nginxPage(http.StatusMethodNotAllowed, "Not Allowed")
	page413 = nginxPage(http.StatusRequestEntityTooLarge, "Request Entity Too Large")
	page429 = nginxPage(http.StatusTooManyRequests, "Too Many Requests")
	page502 = nginxPage(http.StatusBadGateway, "Bad Gateway")
)

// Pages of what stands where the service should be. Their words are ours.
const (
	pageUI = "<!doctype html>\n<html lang=\"en\"><head><title>LangSmith</title></head>" +
		"<body><div id=\"root\"></div></body></html>\n"
	pageDocs = "<!DOCTYPE html><html lang=\"en\"><head><title>Page Not Found | LangSmith Docs</title></head>" +
		"<body><h1>Page Not Found</h1></body></html>\n"
	pagePortal  = "<html><head><title>Sign in to the network</title></head><body>Please accept the terms.</body></html>"
	pageBlocked = "<html><head><title>Access denied by policy</title></head>" +
		"<body><h1>Access denied</h1><p>The category of this site is blocked. Ask your administrator.</p></body></html>\n"
	pageArmor = `<!doctype html><meta charset="utf-8">` +
		`<meta name=viewport content="width=device-width, initial-scale=1"><title>403</title>403 Forbidden`
)

// nginxPage is nginx's own page for a status.
func nginxPage(status int, text string) string {
	title := strconv.Itoa(status) + " " + text
	return "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n" +
		"<center><h1>" + title + "</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
}
