package screen

// Bounds on what a stream can make the model hold. They are far above what
// programs use; whatever exceeds them is ignored or cut, never an error.
const (
	// MaxCols and MaxRows bound the size of a screen, in cells.
	MaxCols = 4096
	MaxRows = 4096

	// DefaultScrollbackBytes is the scrollback bound where Options names none:
	// about 1,600 rows of 80 columns.
	DefaultScrollbackBytes = 2 << 20

	maxParams     = 32       // CSI parameters, sub-parameters included
	maxParamValue = 1 << 20  // beyond any size, below RGB overflow
	maxString     = 64 << 10 // bytes of an OSC, DCS or APC body that are kept
	maxTitle      = 1024     // bytes of a title or icon name
	maxTitleStack = 10       // as xterm
	maxKittyStack = 8        // keyboard flags that are pushed, per screen
	maxPenStack   = 10       // XTPUSHSGR, as xterm
	maxCluster    = 64       // bytes of one grapheme cluster
	maxLink       = 2048     // bytes of a hyperlink's target, as VTE
	maxLinkID     = 256      // bytes of a hyperlink's id parameter
	maxColorSpec  = 64       // bytes of a colour in OSC 4, 10..19
)

// Bounds on the two tables that cells refer to.
const (
	maxClusters     = 1 << 18 // grapheme clusters
	maxExtents      = 1 << 14 // hyperlinks and underline colours
	maxTableBytes   = 8 << 20
	tableEntryBytes = 64      // what an entry takes besides its text
	firstLimit      = 1 << 10 // entries from which on unused ones are looked for
)
