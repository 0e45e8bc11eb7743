/*
 * iscsi_writer: a server whose session with its storage stays open.
 *
 *     iscsi_writer ADDRESS:PORT TARGET LUN INITIATOR
 *
 * Logs in, says "ready", and takes lines from standard input: "LBA FILE" writes the file there with
 * one WRITE(10), in blocks of 512 bytes, and says "LBA done" when the device has said so. Ends with
 * 0 at the end of its input, and with 1 when anything fails.
 */
#include <inttypes.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK = 512, MOST_BYTES = 1 << 20, LINE_BYTES = 1024 };

static bool write_file(struct iscsi_context *iscsi, int lun, uint32_t lba, const char *path) {
    static uint8_t data[MOST_BYTES];
    FILE *file = fopen(path, "rb");
    size_t bytes = file != NULL ? fread(data, 1, sizeof data, file) : 0;
    if (file != NULL)
        fclose(file);
    if (bytes == 0 || bytes % BLOCK != 0)
        return false;
    struct scsi_task *task =
        iscsi_write10_sync(iscsi, lun, lba, data, (uint32_t)bytes, BLOCK, 0, 0, 0, 0, 0);
    bool good = task != NULL && task->status == SCSI_STATUS_GOOD;
    if (task != NULL)
        scsi_free_scsi_task(task);
    return good;
}

static int serve(struct iscsi_context *iscsi, int lun) {
    char line[LINE_BYTES];
    puts("ready");
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint32_t lba;
        char path[LINE_BYTES];
        if (sscanf(line, "%" SCNu32 " %1023s", &lba, path) != 2 ||
            !write_file(iscsi, lun, lba, path)) {
            fprintf(stderr, "iscsi_writer: failed at '%s': %s\n", line, iscsi_get_error(iscsi));
            return 1;
        }
        printf("%" PRIu32 " done\n", lba);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: iscsi_writer ADDRESS:PORT TARGET LUN INITIATOR\n");
        return 2;
    }
    int lun = atoi(argv[3]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct iscsi_context *iscsi = iscsi_create_context(argv[4]);
    if (iscsi == NULL)
        return 1;
    iscsi_set_targetname(iscsi, argv[2]);
    iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
    int status = 1;
    if (iscsi_full_connect_sync(iscsi, argv[1], lun) == 0)
        status = serve(iscsi, lun);
    else
        fprintf(stderr, "iscsi_writer: %s\n", iscsi_get_error(iscsi));
    iscsi_destroy_context(iscsi);
    return status;
}
