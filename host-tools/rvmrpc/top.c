/*
 * The rvmrpc command: top
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <curses.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "monitor.h"

#define TICK_MS         100
#define REFRESH_TICKS   20
#define NAME_WIDTH      16

enum { PAIR_GOOD = 1, PAIR_WARN, PAIR_BAD };

static const char *const columns[] = {
    "STATE", "TOTAL", "USED", "AVAIL", "CACHED", "CPU%", "LOAD", "CALLS/s",
    "LATENCY",
};

static const int widths[] = { 10, 8, 8, 8, 8, 6, 6, 8, 9 };

/* One VM's row, as text; "" for what is not known. */
typedef struct Row {
    const char *name;
    const char *state;
    char *cells[G_N_ELEMENTS(columns)];
    char *note;                 /* why it is so, or NULL */
    double sort;
    gboolean late;              /* an answer is awaited for long */
} Row;

static int sort_by = 'n';
static guint top_row;

/* ---- Rows ---- */

static char *size_cell(const RvmrpcMeminfo *mem, guint key)
{
    return mem && rvmrpc_meminfo_has(mem, key) ? human_size(mem->value[key]) :
           g_strdup("");
}

static void fill_memory(Row *row, const Facts *f)
{
    guint64 used;

    row->cells[1] = size_cell(f->mem, RVMRPC_MEM_TOTAL);
    row->cells[2] = facts_used(f, &used) ? human_size(used) : g_strdup("");
    row->cells[3] = size_cell(f->mem, RVMRPC_MEM_AVAILABLE);
    row->cells[4] = size_cell(f->mem, RVMRPC_MEM_CACHED);
    if (sort_by == 'm' && facts_used(f, &used)) {
        row->sort = used;
    }
}

static void fill_rates(Row *row, const Watched *w)
{
    const Facts *f = w->now;
    double value;

    row->cells[5] = cpu_percent(w->before, f, &value) ?
                    g_strdup_printf("%.1f", value) : g_strdup("");
    if (sort_by == 'c' && *row->cells[5]) {
        row->sort = value;
    }
    row->cells[6] = f->load ? g_strdup_printf("%.2f", f->load->load[0]) :
                    g_strdup("");
    if (sort_by == 'l' && f->load) {
        row->sort = f->load->load[0];
    }
    row->cells[7] = watched_rate(w, &value) ? g_strdup_printf("%.1f", value) :
                    g_strdup("");
    row->cells[8] = f->latency_ns ?
                    g_strdup_printf("%.0f us", f->latency_ns / 1e3) :
                    g_strdup("");
}

static void fill_row(Row *row, Watched *w)
{
    g_mutex_lock(&w->lock);
    row->name = rvmrpc_vm_get_name(w->vm);
    row->state = w->now ? facts_state(w->now) : "...";
    row->late = w->asked && g_get_monotonic_time() - w->asked > 500000;
    row->cells[0] = g_strdup(row->state);
    if (w->now) {
        fill_memory(row, w->now);
        fill_rates(row, w);
        if (w->now->error) {
            row->note = rvmrpc_escape(w->now->error->message, FALSE);
        }
    }
    g_mutex_unlock(&w->lock);
}

static void clear_row(void *data)
{
    Row *row = data;

    for (gsize i = 0; i < G_N_ELEMENTS(columns); i++) {
        g_free(row->cells[i]);
    }
    g_free(row->note);
}

static gint by_sort(gconstpointer a, gconstpointer b)
{
    const Row *x = a, *y = b;

    return x->sort == y->sort ? strcmp(x->name, y->name) :
           (x->sort < y->sort) - (x->sort > y->sort);
}

/* ---- Screen ---- */

static int state_attr(const char *state)
{
    if (!has_colors()) {
        return A_NORMAL;
    }
    return COLOR_PAIR(strcmp(state, "connected") == 0 ? PAIR_GOOD :
                      strcmp(state, "paused") == 0 ||
                      strcmp(state, "no-driver") == 0 ? PAIR_WARN : PAIR_BAD);
}

/* Text of at most @width characters, and blanks up to it. */
static void put_text(const char *text, int width)
{
    int length = g_utf8_strlen(text, -1);
    g_autofree char *cut = g_utf8_substring(text, 0, MIN(length, width));

    printw("%s%*s", cut, MAX(width - length, 0), "");
}

static void draw_row(int y, const Row *row)
{
    int x = NAME_WIDTH + 1 + widths[0];

    move(y, 0);
    put_text(row->name, NAME_WIDTH);
    printw(" ");
    attron(state_attr(row->state));
    put_text(row->state, widths[0]);
    attroff(state_attr(row->state));
    if (row->note && !*row->cells[1]) {
        printw(" ");
        put_text(row->note, MAX(COLS - x - 2, 0));
        return;
    }
    for (gsize i = 1; i < G_N_ELEMENTS(columns) && x + widths[i] < COLS; i++) {
        printw(" %*s", widths[i] - 1, row->cells[i] ?: "");
        x += widths[i];
    }
    if (row->late) {
        printw(" ?");
    }
}

static void draw_head(guint vms)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *clock = g_date_time_format(now, "%T");
    int x = NAME_WIDTH + 1 + widths[0];

    mvprintw(0, 0, "rvmrpc top  %s  %u VMs  q quit  sort: n name  m memory  "
             "c CPU  l load", clock, vms);
    clrtoeol();
    attron(A_REVERSE);
    mvprintw(2, 0, "%-*s %-*s", NAME_WIDTH, "NAME", widths[0], columns[0]);
    for (gsize i = 1; i < G_N_ELEMENTS(columns) && x + widths[i] < COLS; i++) {
        printw(" %*s", widths[i] - 1, columns[i]);
        x += widths[i];
    }
    attroff(A_REVERSE);
}

static void draw(Monitor *m)
{
    g_autoptr(GArray) rows = g_array_new(FALSE, TRUE, sizeof(Row));
    guint room = LINES > 3 ? LINES - 3 : 0;

    g_array_set_clear_func(rows, clear_row);
    g_array_set_size(rows, m->all->len);
    for (guint i = 0; i < m->all->len; i++) {
        fill_row(&g_array_index(rows, Row, i), m->all->pdata[i]);
    }
    g_array_sort(rows, by_sort);
    top_row = MIN(top_row, rows->len > room ? rows->len - room : 0);
    erase();
    draw_head(m->all->len);
    for (guint i = 0; i < room && i + top_row < rows->len; i++) {
        draw_row(3 + i, &g_array_index(rows, Row, i + top_row));
    }
    refresh();
}

/* FALSE: end. */
static gboolean handle_key(int key)
{
    switch (key) {
    case 'q':
        return FALSE;
    case 'n':
    case 'm':
    case 'c':
    case 'l':
        sort_by = key;
        break;
    case KEY_DOWN:
        top_row++;
        break;
    case KEY_UP:
        top_row -= top_row > 0;
        break;
    }
    return TRUE;
}

static gboolean enough(const Monitor *m)
{
    gboolean all = options.count > 0;

    for (guint i = 0; all && i < m->all->len; i++) {
        Watched *w = m->all->pdata[i];

        g_mutex_lock(&w->lock);
        all = w->rounds >= (guint)options.count;
        g_mutex_unlock(&w->lock);
    }
    return all;
}

static void end_screen(void)
{
    endwin();
}

static void begin_screen(void)
{
    initscr();
    g_atomic_pointer_set(&options.leave, end_screen);
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    timeout(TICK_MS);
    if (has_colors() && !g_getenv("NO_COLOR")) {
        start_color();
        use_default_colors();
        init_pair(PAIR_GOOD, COLOR_GREEN, -1);
        init_pair(PAIR_WARN, COLOR_YELLOW, -1);
        init_pair(PAIR_BAD, COLOR_RED, -1);
    }
}

/* A terminal that is gone has no key, and does not wait for one either. */
static gboolean has_terminal(void)
{
    struct pollfd fds[] = {
        { .fd = STDIN_FILENO },
        { .fd = STDOUT_FILENO },
    };

    poll(fds, G_N_ELEMENTS(fds), 0);
    return !((fds[0].revents | fds[1].revents) & (POLLHUP | POLLERR));
}

static int top_screen(Monitor *m)
{
    gboolean there;
    guint ticks = 0;

    begin_screen();
    do {
        if (++ticks % REFRESH_TICKS == 0) {
            monitor_refresh(m);
        }
        draw(m);
        there = has_terminal();
    } while (there && handle_key(getch()) && !enough(m) &&
             !g_cancellable_is_cancelled(options.cancellable));
    leave_screen();
    return there ? EXIT_OK : EXIT_OTHER;
}

int cmd_top(int argc, char **argv)
{
    GError *error = NULL;
    int code = EXIT_OK;
    Monitor *m;

    (void)argc;
    if (!options.json && !(isatty(STDOUT_FILENO) && isatty(STDIN_FILENO))) {
        return usage_error("top needs a terminal; 'top --json' does not");
    }
    m = monitor_new(argv, &error);
    if (!m) {
        return fail(error);
    }
    if (options.json) {
        top_json(m);
    } else {
        code = top_screen(m);
    }
    monitor_free(m);
    return code;
}
