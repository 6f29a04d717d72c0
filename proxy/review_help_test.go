package proxy

import "weir/proxy/runs"

const runsExtra = runs.Extra

func attachmentOf(n int) runs.Op {
	return runs.Op{Kind: runs.Attachment, ID: numbered(n), Trace: numbered(n), Name: "a", ContentType: "image/png", Data: []byte("x")}
}
