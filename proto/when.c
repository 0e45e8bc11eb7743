#include "proto/when.h"

#include "common/clock.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SECONDS_PER_MINUTE = 60, SECONDS_PER_HOUR = 3600, SECONDS_PER_DAY = 86400 };

/* 2554-07-21T23:34:33.709551615Z: what 64 bits of nanoseconds can hold. */
#define LAST_SECOND (UINT64_MAX / NS_PER_SECOND)

static int refuse(struct error *err, const char *text, const char *why) {
    return error_set(err, ERR_USAGE, "TIME '%.64s' %s; give one of " WHEN_FORMS, text, why);
}

/* --- calendar ------------------------------------------------------------------------------------
 */

/* Days since 1970-01-01 of a Gregorian date; years begin in March, so that the leap day comes last.
 */
static int64_t days_of_date(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = year / 400;
    unsigned year_of_era = (unsigned)(year - era * 400);
    unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + (int64_t)day_of_era - 719468;
}

static unsigned days_in_month(unsigned year, unsigned month) {
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

struct date {
    unsigned year;
    unsigned month;
    unsigned day;
};

static struct date date_of_days(uint64_t days) {
    uint64_t shifted = days + 719468;
    uint64_t era = shifted / 146097;
    unsigned day_of_era = (unsigned)(shifted % 146097);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month = (5 * day_of_year + 2) / 153;
    struct date date = {
        .year = (unsigned)(era * 400) + year_of_era,
        .month = month < 10 ? month + 3 : month - 9,
        .day = day_of_year - (153 * month + 2) / 5 + 1,
    };
    date.year += date.month <= 2;
    return date;
}

/* --- reading -------------------------------------------------------------------------------------
 */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Exactly `digits` digits. */
static bool take_fixed(const char **at, unsigned digits, unsigned *value) {
    *value = 0;
    for (unsigned i = 0; i < digits; i++) {
        if (!is_digit(**at))
            return false;
        *value = *value * 10 + (unsigned)(*(*at)++ - '0');
    }
    return true;
}

static bool take_char(const char **at, const char *accepted) {
    if (**at == '\0' || strchr(accepted, **at) == NULL)
        return false;
    (*at)++;
    return true;
}

/* One digit or more; false also when it passes 64 bits. */
static bool take_number(const char **at, uint64_t *value) {
    if (!is_digit(**at))
        return false;
    *value = 0;
    for (; is_digit(**at); (*at)++) {
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(**at - '0'), value))
            return false;
    }
    return true;
}

/* ".123": 1 to 9 digits behind a point, or nothing at all. */
static bool take_fraction(const char **at, uint64_t *ns) {
    *ns = 0;
    if (!take_char(at, "."))
        return true;
    uint64_t unit = NS_PER_SECOND / 10;
    if (!is_digit(**at))
        return false;
    for (; is_digit(**at); (*at)++) {
        if (unit == 0)
            return false;
        *ns += unit * (uint64_t)(**at - '0');
        unit /= 10;
    }
    return true;
}

/* Seconds east of Greenwich: "Z", "+01:00", "-08:30". */
static bool take_offset(const char **at, int64_t *seconds) {
    *seconds = 0;
    if (take_char(at, "Zz"))
        return true;
    bool west = **at == '-';
    unsigned hours;
    unsigned minutes;
    if (!take_char(at, "+-") || !take_fixed(at, 2, &hours) || !take_char(at, ":") ||
        !take_fixed(at, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *seconds = (int64_t)(hours * SECONDS_PER_HOUR + minutes * SECONDS_PER_MINUTE);
    if (west)
        *seconds = -*seconds;
    return true;
}

static bool take_date(const char **at, struct date *date) {
    return take_fixed(at, 4, &date->year) && take_char(at, "-") &&
           take_fixed(at, 2, &date->month) && take_char(at, "-") && take_fixed(at, 2, &date->day);
}

static bool date_exists(const struct date *date) {
    return date->month >= 1 && date->month <= 12 && date->day >= 1 &&
           date->day <= days_in_month(date->year, date->month);
}

static bool compose(int64_t second, uint64_t ns, uint64_t *to) {
    uint64_t whole;
    return second >= 0 && (uint64_t)second <= LAST_SECOND &&
           !__builtin_mul_overflow((uint64_t)second, NS_PER_SECOND, &whole) &&
           !__builtin_add_overflow(whole, ns, to);
}

/* RFC 3339, 5.6, with 'T', 't' or a space between date and time. */
static int parse_rfc3339(const char *text, struct when *when, struct error *err) {
    const char *at = text;
    struct date date;
    unsigned hour;
    unsigned minute;
    unsigned second;
    uint64_t ns;
    int64_t offset;
    if (!take_date(&at, &date))
        return refuse(err, text, "is not a time");
    if (*at == '\0')
        return refuse(err, text, "is a day: say which moment of it");
    if (!take_char(&at, "Tt ") || !take_fixed(&at, 2, &hour) || !take_char(&at, ":") ||
        !take_fixed(&at, 2, &minute) || !take_char(&at, ":") || !take_fixed(&at, 2, &second) ||
        !take_fraction(&at, &ns))
        return refuse(err, text, "is not a time");
    if (*at == '\0')
        return refuse(err, text, "does not say its zone: add Z for UTC, or an offset like +01:00");
    if (!take_offset(&at, &offset) || *at != '\0')
        return refuse(err, text, "is not a time");
    /* The clock behind the time marks has no number for a leap second: see CLOCK_REALTIME. */
    if (second == 60)
        return refuse(err, text,
                      "is a leap second, which the clock does not count: give "
                      "second 59.999999999, or the next one");
    if (!date_exists(&date) || hour > 23 || minute > 59 || second > 59)
        return refuse(err, text, "does not exist on the calendar");
    int64_t days = days_of_date(date.year, date.month, date.day);
    int64_t of_day = (int64_t)(hour * SECONDS_PER_HOUR + minute * SECONDS_PER_MINUTE + second);
    when->kind = WHEN_ABSOLUTE;
    if (!compose(days * SECONDS_PER_DAY + of_day - offset, ns, &when->ns))
        return refuse(err, text, "is outside of the years 1970 to 2554");
    return 0;
}

static int parse_epoch(const char *text, struct when *when, struct error *err) {
    const char *at = text + 1;
    uint64_t second;
    uint64_t ns;
    if (!take_number(&at, &second) || !take_fraction(&at, &ns) || *at != '\0')
        return refuse(err, text, "is not @SECONDS or @SECONDS.NANOSECONDS");
    when->kind = WHEN_ABSOLUTE;
    if (second > LAST_SECOND || !compose((int64_t)second, ns, &when->ns))
        return refuse(err, text, "is outside of the years 1970 to 2554");
    return 0;
}

/* "1h30m": units from the largest to the smallest, each once, so that a slip of the finger is
 * noticed. */
static bool take_duration(const char **at, uint64_t *ns) {
    static const char units[] = "wdhms";
    static const uint64_t seconds[] = {7 * SECONDS_PER_DAY, SECONDS_PER_DAY, SECONDS_PER_HOUR,
                                       SECONDS_PER_MINUTE, 1};
    size_t first_allowed = 0;
    *ns = 0;
    do {
        uint64_t value;
        if (!take_number(at, &value) || **at == '\0')
            return false;
        const char *unit = strchr(units, **at);
        if (unit == NULL || (size_t)(unit - units) < first_allowed)
            return false;
        first_allowed = (size_t)(unit - units) + 1;
        (*at)++;
        if (__builtin_mul_overflow(value, seconds[unit - units] * NS_PER_SECOND, &value) ||
            __builtin_add_overflow(*ns, value, ns))
            return false;
    } while (**at != '\0');
    return true;
}

static int parse_ago(const char *text, struct when *when, struct error *err) {
    const char *at = text + 1;
    when->kind = WHEN_AGO;
    if (!take_duration(&at, &when->ns))
        return refuse(err, text, "is not a time ago like -90s, -15m, -1h30m, -2d, -1w");
    return 0;
}

int when_parse_duration(const char *text, uint64_t *ns, struct error *err) {
    const char *at = text;
    if (!take_duration(&at, ns) || *ns == 0)
        return error_set(err, ERR_USAGE, "'%.64s' is not a duration like 30s, 15m, 1h30m, 2d, 1w",
                         text);
    return 0;
}

static int parse_bookmark(const char *text, const char *name, struct when *when,
                          struct error *err) {
    size_t length = strlen(name);
    if (length == 0 || length > LIMIT_NAME_BYTES)
        return refuse(err, text, "does not name a bookmark");
    when->kind = WHEN_BOOKMARK;
    memcpy(when->name, name, length + 1);
    return 0;
}

static bool take_hex(const char **at, uint64_t *value) {
    static const char digits[] = "0123456789abcdef";
    *value = 0;
    unsigned count = 0;
    for (; **at != '\0'; (*at)++, count++) {
        char c = **at >= 'A' && **at <= 'F' ? (char)(**at - 'A' + 'a') : **at;
        const char *digit = strchr(digits, c);
        if (digit == NULL || *value >> 60 != 0)
            return false;
        *value = *value << 4 | (uint64_t)(digit - digits);
    }
    return count > 0;
}

static int parse_before_write(const char *text, const char *lba, struct when *when,
                              struct error *err) {
    bool hex = lba[0] == '0' && (lba[1] == 'x' || lba[1] == 'X');
    const char *at = hex ? lba + 2 : lba;
    when->kind = WHEN_BEFORE_WRITE;
    if (!(hex ? take_hex(&at, &when->lba) : take_number(&at, &when->lba)) || *at != '\0')
        return refuse(err, text, "does not name a block by a decimal or 0x number");
    return 0;
}

static const char *behind(const char *text, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

int when_parse(const char *text, struct when *when, struct error *err) {
    *when = (struct when){0};
    if (text[0] == '@')
        return parse_epoch(text, when, err);
    if (text[0] == '-')
        return parse_ago(text, when, err);
    if (strcmp(text, "latest") == 0) {
        when->kind = WHEN_LATEST;
        return 0;
    }
    const char *rest = behind(text, "bookmark:");
    if (rest != NULL)
        return parse_bookmark(text, rest, when, err);
    rest = behind(text, "before-write:");
    if (rest != NULL)
        return parse_before_write(text, rest, when, err);
    return parse_rfc3339(text, when, err);
}

/* --- printing ------------------------------------------------------------------------------------
 */

/* Date and time of day, without a zone, of a wall time that was shifted by the zone's offset. */
static int print_civil(uint64_t second, uint64_t ns, char *text, size_t size) {
    struct date date = date_of_days(second / SECONDS_PER_DAY);
    unsigned of_day = (unsigned)(second % SECONDS_PER_DAY);
    return snprintf(text, size, "%04u-%02u-%02uT%02u:%02u:%02u.%09" PRIu64, date.year, date.month,
                    date.day, of_day / SECONDS_PER_HOUR,
                    of_day % SECONDS_PER_HOUR / SECONDS_PER_MINUTE, of_day % SECONDS_PER_MINUTE,
                    ns);
}

const char *when_print_utc(uint64_t time_ns, char text[WHEN_TEXT_BYTES]) {
    int used = print_civil(time_ns / NS_PER_SECOND, time_ns % NS_PER_SECOND, text, WHEN_TEXT_BYTES);
    snprintf(text + used, WHEN_TEXT_BYTES - (size_t)used, "Z");
    return text;
}

const char *when_print_local(uint64_t time_ns, char text[WHEN_TEXT_BYTES]) {
    time_t second = (time_t)(time_ns / NS_PER_SECOND);
    struct tm local;
    long east = localtime_r(&second, &local) != NULL ? local.tm_gmtoff : 0;
    /* RFC 3339 has no seconds in offsets; some zones had them once. The moment printed stays the
     * same. */
    long minutes = east / SECONDS_PER_MINUTE;
    int64_t shifted = (int64_t)second + minutes * SECONDS_PER_MINUTE;
    if (shifted < 0)
        return when_print_utc(time_ns, text);
    int used = print_civil((uint64_t)shifted, time_ns % NS_PER_SECOND, text, WHEN_TEXT_BYTES);
    unsigned away = (unsigned)labs(minutes);
    snprintf(text + used, WHEN_TEXT_BYTES - (size_t)used, "%c%02u:%02u", minutes < 0 ? '-' : '+',
             away / 60 % 24, away % 60);
    return text;
}
