"""Every kind of trouble that a row of a table can have, and what its owner can do about it."""

from __future__ import annotations

from collections.abc import Mapping

from vitrine.rowreport import Reason

REASONS: Mapping[str, Reason] = {
    # the file
    "other encoding": Reason(
        "remark",
        "the line is in another encoding than the rest of the file; it was read as {detail}",
        "look whether its letters are right; if not, export as UTF-8 or say -o encoding=NAME",
    ),
    "unreadable letters": Reason(
        "remark",
        "some bytes mean no letter in {detail}; they became U+FFFD",
        "export as UTF-8, or say -o encoding=NAME",
    ),
    "short row": Reason(
        "remark",
        "the row has {detail} cells; the missing ones were taken as empty",
        "look whether values stand in the right columns",
    ),
    "long row": Reason(
        "rejected",
        "the row has {detail} cells, so values are shifted",
        "quote the cell that holds the delimiter",
    ),
    "open quote": Reason(
        "rejected",
        "a quote is opened in this line and not closed where a row could end",
        "close the quote, or double it inside a quoted cell",
    ),
    "unreadable row": Reason("rejected", "the row cannot be read: {detail}", "correct the line"),
    # what a row is
    "no item id": Reason("rejected", "the row has no item id", "give each item an id of its own"),
    "bad text": Reason("rejected", "the row holds characters that are no Unicode text", "export the row again"),
    "no label": Reason(
        "rejected",
        "the row has no {detail}, which is the class to find it by",
        "fill the cell, or take the classes from another column: -o label=COLUMN",
    ),
    "no photo named": Reason("rejected", "the row names no photo", "fill the photo column"),
    "unknown split": Reason("rejected", "the split is none of {detail}", "correct the cell"),
    # several rows of one id
    "repeated row": Reason("merged", "the row repeats row {detail} and was merged with it", "nothing; export it once"),
    "photos joined": Reason(
        "merged", "the row differs from row {detail} in photos only; they were joined to one item", "nothing"
    ),
    "duplicate id": Reason(
        "rejected",
        "row {detail} has the same id and other content; the first one was kept",
        "give one of them another id",
    ),
    # values
    "no number": Reason(
        "remark", "the value is no single number; it was left empty", "write one number, such as 1234.56 or 1.234,56"
    ),
    "negative price": Reason("remark", "a price below zero; it was left empty", "correct the price"),
    "doubtful number": Reason(
        "remark",
        "the one mark in it may be decimal or group thousands; it was read as {detail}",
        "say which: -o decimal=, or -o decimal=.",
    ),
    "no time": Reason(
        "remark", "the value is no point in time; it was left empty", "write 2025-03-31 or 2025-03-31T14:30:00"
    ),
    "doubtful date": Reason(
        "remark", "day and month cannot be told apart; it was left empty", "say which: -o dates=dmy or -o dates=mdy"
    ),
    # photos
    "dead link": Reason(
        "remark", "the photo cannot be fetched: {detail}", "repair the link and import again; fetched photos are kept"
    ),
    "missing photo": Reason(
        "remark",
        "there is no such file",
        "put the photo there, say where photos lie: -o base=FOLDER, or what stands between several: -o separator=,",
    ),
    "broken photo": Reason("remark", "{detail}", "replace the photo; if it was fetched, import with -o refresh=true"),
    "no photo left": Reason(
        "rejected", "none of the item's {detail} photos can be used", "see the remarks on its photos"
    ),
    # splits
    "no time to split by": Reason("remark", "without a time the item went to the training side", "fill the time"),
    "straddles the split": Reason(
        "remark",
        "its product or photo lies on both sides of the split; it is searched, neither trained on nor asked for",
        "nothing; this keeps the test honest",
    ),
    "nothing to find": Reason(
        "remark",
        "no gallery item has the label {detail}, so asking for this one finds nothing",
        "add items of that label",
    ),
}
