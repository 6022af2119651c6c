// SQL as text: what is a word, a string or a comment of it; where statements end; and
// which of them destroy more than a person may have meant.

const keywords = new Set(`ABORT ACTION ADD AFTER ALL ALTER ALWAYS ANALYZE AND AS ASC ATTACH AUTOINCREMENT BEFORE BEGIN BETWEEN BY CASCADE CASE CAST CHECK COLLATE COLUMN COMMIT CONFLICT CONSTRAINT CREATE CROSS CURRENT CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP DATABASE DATABASES DEFAULT DEFERRABLE DEFERRED DELETE DESC DESCRIBE DETACH DISTINCT DO DROP EACH ELSE END ESCAPE EXCEPT EXCLUDE EXCLUSIVE EXISTS EXPLAIN FAIL FILTER FIRST FOLLOWING FOR FOREIGN FROM FULL GENERATED GLOB GROUP GROUPS HAVING IF IGNORE IMMEDIATE IN INDEX INDEXED INITIALLY INNER INSERT INSTEAD INTERSECT INTO IS ISNULL JOIN KEY LAST LEFT LIKE LIMIT MATCH MATERIALIZED NATURAL NO NOT NOTHING NOTNULL NULL NULLS OF OFFSET ON OR ORDER OTHERS OUTER OVER PARTITION PLAN PRAGMA PRECEDING PRIMARY QUERY RAISE RANGE RECURSIVE REFERENCES REGEXP REINDEX RELEASE RENAME REPLACE REPLICAS RESTRICT RETURNING RIGHT ROLLBACK ROW ROWS SAVEPOINT SELECT SET SHOW SLAVES STATUS STRICT TABLE TABLES TEMP TEMPORARY THEN TIES TO TRANSACTION TRIGGER UNBOUNDED UNION UNIQUE UPDATE USE USING VACUUM VALUES VIEW VIRTUAL WHEN WHERE WINDOW WITH WITHOUT`.split(' '));

const token = /(?<space>\s+)|(?<comment>--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|(?<string>[xX]?'(?:[^']|'')*(?:'|$))|(?<name>"(?:[^"]|"")*(?:"|$)|`(?:[^`]|``)*(?:`|$)|\[[^\]]*(?:\]|$))|(?<number>0[xX][0-9a-fA-F]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?<word>[\p{L}_$][\p{L}\p{N}_$]*)|(?<parameter>[?:@][\w]*)|(?<mark>.)/guy;

// tokens are the parts of a text: { kind, text, at }. A word that SQL knows is of kind
// keyword.
export function tokens(sql) {
	const list = [];
	for (const match of sql.matchAll(token)) {
		let kind = Object.entries(match.groups).find(([, v]) => v !== undefined)[0];
		if (kind === 'word' && keywords.has(match[0].toUpperCase())) kind = 'keyword';
		list.push({ kind, text: match[0], at: match.index });
	}
	return list;
}

// statements are the lists of tokens between semicolons, without spaces and comments.
// A semicolon inside of a trigger ends nothing.
export function statements(sql) {
	const all = [];
	let now = [];
	let depth = 0; // of BEGIN and CASE in a trigger
	for (const t of tokens(sql)) {
		if (t.kind === 'space' || t.kind === 'comment') continue;
		const word = t.kind === 'keyword' ? t.text.toUpperCase() : '';
		if (isTrigger(now)) {
			if (word === 'BEGIN' || word === 'CASE') depth++;
			if (word === 'END') depth--;
		}
		if (t.text === ';' && depth <= 0) {
			if (now.length > 0) all.push(now);
			now = [];
			depth = 0;
		} else now.push(t);
	}
	if (now.length > 0) all.push(now);
	return all;
}

const isTrigger = (list) => upper(list[0]) === 'CREATE' && list.slice(1, 4).some((t) => upper(t) === 'TRIGGER');
const upper = (t) => (t && (t.kind === 'keyword' || t.kind === 'word') ? t.text.toUpperCase() : '');

// verb is the keyword that says what a statement does: behind EXPLAIN, and behind the
// tables of a WITH.
function verb(list) {
	let at = 0;
	if (upper(list[0]) === 'EXPLAIN') return { word: 'EXPLAIN', at };
	if (upper(list[0]) === 'WITH') {
		let depth = 0;
		for (at = 1; at < list.length; at++) {
			if (list[at].text === '(') depth++;
			else if (list[at].text === ')') depth--;
			else if (depth === 0 && ['SELECT', 'VALUES', 'INSERT', 'REPLACE', 'UPDATE', 'DELETE'].includes(upper(list[at]))) break;
		}
	}
	return { word: upper(list[at]), at };
}

const reads = new Set(['SELECT', 'VALUES', 'EXPLAIN', 'SHOW', 'DESCRIBE', 'DESC', 'PRAGMA']);

// onlyReads says whether all of a text can be asked of any node.
export function onlyReads(sql) {
	return statements(sql).every((list) => reads.has(verb(list).word));
}

// harm lists what deserves a second look before it is run: { what, text }.
export function harm(sql) {
	const found = [];
	for (const list of statements(sql)) {
		const { word, at } = verb(list);
		const whole = sql.slice(list[0].at, list.at(-1).at + list.at(-1).text.length);
		if (word === 'DROP') found.push({ what: `Drops a ${upper(list[1]).toLowerCase() || 'thing'} with all that is in it`, text: whole });
		if (word === 'ALTER' && list.some((t) => upper(t) === 'DROP')) found.push({ what: 'Drops a column with all its values', text: whole });
		if ((word === 'DELETE' || word === 'UPDATE') && !hasWhere(list.slice(at))) {
			found.push({ what: word === 'DELETE' ? 'Deletes every row: it has no WHERE' : 'Changes every row: it has no WHERE', text: whole });
		}
	}
	return found;
}

function hasWhere(list) {
	let depth = 0;
	for (const t of list) {
		if (t.text === '(') depth++;
		else if (t.text === ')') depth--;
		else if (depth === 0 && upper(t) === 'WHERE') return true;
	}
	return false;
}

// quoted writes a name so that SQL takes it as one, whatever is in it.
export const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
