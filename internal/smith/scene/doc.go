// Package scene sets up, on loopback, every cause for which LangSmith is known
// to refuse traces and which can be played without LangSmith: the look-alike in
// the state that makes it refuse, the key and workspace a client is configured
// with, what an application sends, and how it is mended.
//
// [Scenes] is the list. A test goes through it, sends each scene's data through
// the real thing, and compares what it finds with what the scene says: the cause
// that a right diagnosis names first, and what becomes of the data. The cause
// is written as weir's diagnosis spells it; the package knows nothing of weir.
//
// Answers are those of package smith, whose comments say which were published
// and which are guesses. Where a scene's cause is itself a judgement, because
// nothing that can be seen tells it from another, its comment says so.
//
//	for _, sc := range scene.Scenes() {
//		st, err := sc.Open(ctx)
//		...
//		defer st.Close()
//		send(st.Client, st.Data)
//		mended, err := st.Heal()
//	}
package scene
