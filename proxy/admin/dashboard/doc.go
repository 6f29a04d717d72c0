// Package dashboard is the page that weir shows to a browser at its admin port:
// HTML, style sheets and ECMAScript modules as they are in static, embedded in
// the binary. There is no build step.
//
// The page has no data of its own. It calls the AdminService (Connect's JSON over
// fetch) as any client does, with the admin token where there is one, and follows
// Watch. It never loads anything from elsewhere; the Content-Security-Policy says
// so to the browser, and the tests in interop/browser look at what it does.
//
// In static, main.js joins the parts: api.js speaks Connect, store.js follows
// Watch, views/*.js turn what the store holds into elements, dom.js brings those
// onto the page. No markup is ever made from strings. static/uplot is somebody
// else's: the library that draws the charts.
package dashboard
